//! What label keys and values may be, and how Kubernetes says that one is not.

const LONGEST: usize = 63;
const LONGEST_PREFIX: usize = 253;

const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// A key is a name of at most 63 bytes, after an optional DNS subdomain and `/`.
pub(super) fn validate_key(key: &str) -> Result<(), String> {
    let invalid = |faults: Vec<String>| {
        if faults.is_empty() { Ok(()) } else { Err(format!("<nil>: Invalid value: {key:?}: {}", faults.join("; "))) }
    };
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            return invalid(vec![format!(
                "a valid label key {KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )]);
        }
        Some((prefix, name)) => {
            faults.extend(prefix_faults(prefix).into_iter().map(|fault| format!("prefix part {fault}")));
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LONGEST {
        faults.push(format!("name part must be no more than {LONGEST} bytes"));
    }
    if !is_name(name) {
        faults.push(format!("name part {KEY_RULE}"));
    }
    invalid(faults)
}

/// A value is empty or a name of at most 63 bytes. `index` is its place among the values for `key`.
pub(super) fn validate_value(key: &str, index: usize, value: &str) -> Result<(), String> {
    let fault = if value.len() > LONGEST {
        format!("must be no more than {LONGEST} bytes")
    } else if !value.is_empty() && !is_name(value) {
        VALUE_RULE.to_owned()
    } else {
        return Ok(());
    };
    Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {fault}"))
}

fn prefix_faults(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["must be non-empty".to_owned()];
    }
    let mut faults = Vec::new();
    if prefix.len() > LONGEST_PREFIX {
        faults.push(format!("must be no more than {LONGEST_PREFIX} bytes"));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !prefix.split('.').all(|label| label.bytes().all(allowed) && bounded_by_alphanumerics(label)) {
        faults.push(PREFIX_RULE.to_owned());
    }
    faults
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.bytes().all(allowed) && bounded_by_alphanumerics(text)
}

fn bounded_by_alphanumerics(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}
