//! Numbers and pieces of memory as people write them.

use vmc::PhysAddr;

use crate::layout::Piece;

/// `GPA+SIZE@HVA`.
pub(crate) fn piece(text: &str) -> Option<Piece> {
    let (guest, rest) = text.split_once('+')?;
    let (len, host) = rest.split_once('@')?;
    Some(Piece { guest: PhysAddr::new(number(guest)?), len: size(len)?, host: number(host)? })
}

/// A number, hexadecimal with `0x`, else decimal; digits only.
pub(crate) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    hex_or_decimal(digits, radix)
}

/// `from_str_radix` without the signs that it takes.
fn hex_or_decimal(digits: &str, radix: u32) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// A size in bytes, or with `K`, `M`, `G` or `T` behind it (also small, also with `B` or `iB` behind that).
pub(crate) fn size(text: &str) -> Option<u64> {
    // The `b` of a hexadecimal number is a digit.
    if text.starts_with("0x") || text.starts_with("0X") {
        let (digits, shift) = unit(text);
        return number(digits)?.checked_mul(1 << shift);
    }
    let plain = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (digits, shift) = unit(plain.strip_suffix('i').unwrap_or(plain));
    number(digits)?.checked_mul(1 << shift)
}

/// The digits before a unit, and the unit's power of two.
fn unit(text: &str) -> (&str, u32) {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let found = units.iter().find_map(|(letter, shift)| {
        let digits = text.strip_suffix(*letter).or_else(|| text.strip_suffix(letter.to_ascii_lowercase()))?;
        Some((digits, *shift))
    });
    found.unwrap_or((text, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes() {
        assert_eq!((number("0x10"), number("10"), number("0X1f")), (Some(16), Some(10), Some(31)));
        assert_eq!((number("+1"), number("0x+1"), number(""), number("0x")), (None, None, None, None));
        assert_eq!(
            (size("6G"), size("512m"), size("0x40K"), size("7")),
            (Some(6 << 30), Some(512 << 20), Some(1 << 16), Some(7))
        );
        assert_eq!((size("0x1b"), size("2GiB"), size("16777216T")), (Some(0x1b), Some(2 << 30), None));
    }
}
