//! Packed names, one after the other.

use alloc::vec::Vec;

/// Bytes of a name with its type's letter: the kernel's own buffer for one is as large (`KSYM_NAME_LEN` in
/// `include/linux/kallsyms.h`, 128 before 6.1). No token that a name uses is empty, so it has no more tokens either.
pub(super) const KSYM_NAME_LEN: usize = 512;

/// Goes through the names of a table; one that is too long for the kernel ends it, as a cut one does.
#[derive(Clone, Debug)]
pub(super) struct Names<'t> {
    rest: &'t [u8],
    tokens: &'t [Vec<u8>],
    left: usize,
}

/// One name, still packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'t> {
    packed: &'t [u8],
    tokens: &'t [Vec<u8>],
}

/// For each token, which of some names can have it at a place, a bit a name: most symbols are ruled out by two looks.
#[derive(Debug)]
pub(super) struct Hints {
    /// With the token as the first of a symbol: it begins with the type's letter.
    behind_letter: Vec<u64>,
    /// With the token as the second of a symbol whose first is the letter alone.
    whole: Vec<u64>,
    /// With the token as the last of a symbol.
    last: Vec<u64>,
}

impl Hints {
    /// Of the first 64 of `names`.
    pub(super) fn new(names: &[&str], tokens: &[Vec<u8>]) -> Self {
        let of = |fits: &dyn Fn(&[u8]) -> bool| {
            let numbered = names.iter().take(64).enumerate();
            numbered.fold(0, |mask, (index, name)| mask | u64::from(fits(name.as_bytes())) << index)
        };
        let begin_with = |start: &[u8]| of(&|name| name.starts_with(start) || start.starts_with(name));
        let behind_letter = tokens.iter().map(|token| match token.get(1..) {
            Some(rest) if !rest.is_empty() => begin_with(rest),
            _ => u64::MAX,
        });
        // The last may be the first as well, with the letter in front.
        let end_with = |end: &[u8]| of(&|name| name.ends_with(end) || end.ends_with(name));
        Self {
            behind_letter: behind_letter.collect(),
            whole: tokens.iter().map(|token| begin_with(token)).collect(),
            last: tokens.iter().map(|token| end_with(token)).collect(),
        }
    }
}

impl<'t> Names<'t> {
    pub(super) fn new(names: &'t [u8], tokens: &'t [Vec<u8>], count: usize) -> Self {
        Self { rest: names, tokens, left: count }
    }

    /// What has not been gone through yet.
    pub(super) const fn rest(&self) -> &'t [u8] {
        self.rest
    }
}

impl<'t> Iterator for Names<'t> {
    type Item = Name<'t>;

    fn next(&mut self) -> Option<Name<'t>> {
        self.left = self.left.checked_sub(1)?;
        let (first, rest) = self.rest.split_first()?;
        let (len, rest) = if first & 0x80 == 0 {
            (usize::from(*first), rest)
        } else {
            let (second, rest) = rest.split_first()?;
            (usize::from(first & 0x7f) | (usize::from(*second) << 7), rest)
        };
        if len > KSYM_NAME_LEN {
            return None;
        }
        let (packed, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Name { packed, tokens: self.tokens })
    }
}

impl Name<'_> {
    fn token(&self, index: usize) -> Option<&[u8]> {
        self.tokens.get(usize::from(*self.packed.get(index)?)).map(Vec::as_slice)
    }

    /// Is the name, without the letter for its type, `text`?
    pub(super) fn is(&self, text: &str) -> bool {
        let mut rest = text.as_bytes();
        let mut letter = true;
        for index in 0..self.packed.len() {
            let Some(mut token) = self.token(index) else { return false };
            if letter && !token.is_empty() {
                token = token.get(1..).unwrap_or_default();
                letter = false;
            }
            let Some(behind) = rest.strip_prefix(token) else { return false };
            rest = behind;
        }
        rest.is_empty() && !letter
    }

    /// A quick look: which of the names that `hints` were made for can it be?
    pub(super) fn candidates(&self, hints: &Hints) -> u64 {
        let of = |table: &[u64], token: &u8| table.get(usize::from(*token)).copied().unwrap_or(u64::MAX);
        let [first, rest @ ..] = self.packed else { return 0 };
        let begun = match of(&hints.behind_letter, first) {
            // The first token is the letter alone: the second tells more.
            u64::MAX => rest.first().map_or(u64::MAX, |second| of(&hints.whole, second)),
            begun => begun,
        };
        match self.packed.last() {
            Some(last) if begun != 0 => begun & of(&hints.last, last),
            _ => begun,
        }
    }

    /// The type's letter and the name, into `text`; nothing where the name is too long for the kernel.
    pub(super) fn expand(&self, text: &mut Vec<u8>) -> Option<()> {
        text.clear();
        for index in 0..self.packed.len() {
            let token = self.token(index)?;
            if text.len() + token.len() > KSYM_NAME_LEN {
                return None;
            }
            text.extend_from_slice(token);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn tokens() -> Vec<Vec<u8>> {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| Vec::from([byte])).collect();
        tokens[200] = b"Tsys_".to_vec();
        tokens[201] = b"".to_vec();
        tokens
    }

    #[test]
    fn tokens_make_names() {
        let tokens = tokens();
        let packed = [4, 200, b'f', b'o', b'o', 3, b'd', 201, b'x', 1, b't'];
        let names: Vec<Name<'_>> = Names::new(&packed, &tokens, 3).collect();
        let mut text = Vec::new();
        names[0].expand(&mut text).unwrap();
        assert_eq!(text, b"Tsys_foo");
        assert!(names[0].is("sys_foo") && !names[0].is("sys_fo") && !names[0].is("sys_fooo"));
        assert!(names[1].is("x") && names[2].is(""));
        let hints = Hints::new(&["sys_bar", "x", "sys_foo", "sys_boo"], &tokens);
        assert_eq!(names[0].candidates(&hints), 0b1100);
        // An empty token says nothing.
        assert_ne!(names[1].candidates(&hints) & 0b010, 0);
    }

    /// However a name is cut into tokens, it is a candidate for itself.
    #[test]
    fn no_name_is_ruled_out_for_itself() {
        let mut tokens = tokens();
        for (number, text) in
            ["Tini", "init", "_task", "Tinit_task", "init_task", "task", "T"].iter().enumerate()
        {
            tokens[usize::from(b'\xd0') + number] = text.as_bytes().to_vec();
        }
        let hints = Hints::new(&["other", "init_task", "task"], &tokens);
        for packed in [
            &[10, b'T', b'i', b'n', b'i', b't', b'_', b't', b'a', b's', b'k'][..],
            &[3, 0xd0, b't', 0xd2],
            &[3, b'T', 0xd1, 0xd2],
            &[1, 0xd3],
            &[2, 0xd6, 0xd4],
            &[3, 0xd6, 0xd4, 201],
            &[4, b'T', 0xd1, b'_', 0xd5],
        ] {
            let name = Names::new(packed, &tokens, 1).next().unwrap();
            assert!(name.is("init_task"), "{packed:?}");
            assert_ne!(name.candidates(&hints) & 0b010, 0, "{packed:?}");
        }
    }

    #[test]
    fn long_names_have_two_bytes_of_length() {
        let tokens = tokens();
        let mut packed = Vec::from([0x80 | 2, 1]);
        packed.extend([b'a'; 130]);
        assert_eq!(Names::new(&packed, &tokens, 5).map(|name| name.packed.len()).collect::<Vec<_>>(), [130]);
    }

    #[test]
    fn names_that_are_too_long_are_none() {
        let mut tokens = tokens();
        tokens[202] = vec![b'x'; 0xffff];
        tokens[203] = vec![b'x'; KSYM_NAME_LEN - 1];
        let mut text = Vec::new();
        let mut expand = |packed: &[u8]| {
            let name = Names::new(packed, &tokens, 1).next()?;
            let whole = name.expand(&mut text);
            assert!(text.capacity() < 4 * KSYM_NAME_LEN);
            whole.map(|()| text.len())
        };
        assert_eq!(expand(&[2, b'T', 202]), None);
        assert_eq!(expand(&[3, b'T', 203, b'y']), None);
        assert_eq!(expand(&[2, b'T', 203]), Some(KSYM_NAME_LEN));
        // 32 767 tokens, each of them empty.
        let mut packed = Vec::from([0xff, 0xff]);
        packed.extend([201; 0x7fff]);
        assert_eq!(expand(&packed), None);
    }

    #[test]
    fn a_cut_table_ends() {
        let tokens = tokens();
        assert_eq!(Names::new(&[5, 1, 2], &tokens, 9).count(), 0);
        assert_eq!(Names::new(&[0x80], &tokens, 9).count(), 0);
    }
}
