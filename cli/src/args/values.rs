//! Values of options, as they are written.

use std::time::Duration;

/// How many bytes are shown around a match.
pub(super) fn context(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| format!("{text} is no number of bytes"))?;
    if number <= 4096 { Ok(number) } else { Err("4096 is the most".to_owned()) }
}

/// How many matches are wanted: one at least.
pub(super) fn most(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("one is the least".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("{text} is no number of matches")),
    }
}

/// An address, `0x…`.
pub(crate) fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = digits.ok_or("an address begins with 0x")?;
    u64::from_str_radix(digits, 16).map_err(|_| format!("0x{digits} is no 64-bit hexadecimal number"))
}

/// A length in bytes, decimal or `0x…`.
pub(super) fn length(text: &str) -> Result<u64, String> {
    address(text).or_else(|_| text.parse().map_err(|_| format!("{text} is no number of bytes")))
}

/// A number of bytes, with K, M, G or T for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => {
            let shift = match unit.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return Err(format!("{unit} is no unit: K, M, G and T are")),
            };
            (text.get(..at).unwrap_or_default(), shift)
        }
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text} is no size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than 64 bits hold"))
}

/// A time in seconds, a millisecond at the least and an hour at the most.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    if (0.001..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("0.001 is the least and 3600 the most".to_owned())
    }
}

/// A rate in Hertz.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text} is no rate in Hz"))?;
    if (0.1..=10_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("0.1 is the least and 10000 the most".to_owned())
    }
}

/// A time in seconds, up to a month.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    if (0.001..=2_678_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("0.001 is the least and 2678400 the most".to_owned())
    }
}
