//! What a plain scalar says: the core schema of YAML 1.2 (§10.3.2), which has neither `yes` nor octal `010`.

use serde_json::Number;
use serde_json::Value;

use super::YamlProblem;

/// The value of a scalar without quotes.
pub(super) fn resolve(text: &str) -> Result<Value, YamlProblem> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let number = || YamlProblem::Number(text.to_owned());
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && is_digits(digits, |byte| char::from(byte).is_digit(radix))
        {
            return u64::from_str_radix(digits, radix).map(Value::from).map_err(|_| number());
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if is_digits(unsigned, |byte| byte.is_ascii_digit()) {
        let positive = text.strip_prefix('+').unwrap_or(text);
        let value = positive.parse::<u64>().map(Value::from).or_else(|_| positive.parse::<i64>().map(Value::from));
        return value.map_err(|_| number());
    }
    if is_float(unsigned) {
        let value = text.parse().ok().and_then(Number::from_f64);
        return value.map(Value::Number).ok_or_else(number);
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(number());
    }
    Ok(Value::String(text.to_owned()))
}

fn is_digits(text: &str, digit: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(digit)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let decimal = |byte: u8| byte.is_ascii_digit();
    let exponent = exponent.is_none_or(|text| is_digits(text.strip_prefix(['-', '+']).unwrap_or(text), decimal));
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => is_digits(fraction, decimal),
        Some((whole, fraction)) => is_digits(whole, decimal) && fraction.bytes().all(decimal),
        None => is_digits(mantissa, decimal),
    };
    mantissa && exponent
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_are_what_yaml_1_2_says() {
        let cases = [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nULL", json!("nULL")),
            ("true", json!(true)),
            ("FALSE", json!(false)),
            ("yes", json!("yes")),
            ("on", json!("on")),
            ("n", json!("n")),
            ("0", json!(0)),
            ("010", json!(10)),
            ("+7", json!(7)),
            ("-7", json!(-7)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("0xfF", json!(255)),
            ("0o17", json!(15)),
            ("0x", json!("0x")),
            ("-0x1", json!("-0x1")),
            ("0o8", json!("0o8")),
            ("1.5", json!(1.5)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            (".", json!(".")),
            ("-", json!("-")),
            ("1e", json!("1e")),
            ("1.5.2", json!("1.5.2")),
            ("10.0.0.7", json!("10.0.0.7")),
            ("12:30", json!("12:30")),
            ("1_000", json!("1_000")),
            ("infinity", json!("infinity")),
            ("2026-11-22", json!("2026-11-22")),
            ("0a:1b", json!("0a:1b")),
            ("GET", json!("GET")),
        ];
        for (text, want) in cases {
            assert_eq!(resolve(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused() {
        for text in
            ["18446744073709551616", "-9223372036854775809", "0x10000000000000000", ".inf", "-.INF", ".nan", "1e999"]
        {
            assert_eq!(resolve(text), Err(YamlProblem::Number(text.into())), "{text}");
        }
    }
}
