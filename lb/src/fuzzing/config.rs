//! Configuration: text comes to a configuration that says the same when it is printed, or to an error that says where the
//! mistake is and what to do.

use service_kit::config::{ConfigError, effective_text, parse_text};

use crate::Config;

/// `data` is the text of a file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_text::<Config>("lb", text) {
        Ok(_) => {
            let printed = effective_text::<Config>("lb", text).expect("what was parsed can be printed");
            let again = effective_text::<Config>("lb", &printed)
                .unwrap_or_else(|error| panic!("what is in force is refused: {error}\n{printed}"));
            assert_eq!(printed, again, "what is in force says something else when it is read");
        }
        Err(ConfigError::Syntax { message, .. }) => {
            assert!(message.contains("line "), "no place: {message}");
        }
        Err(ConfigError::Invalid { invalid, .. }) => {
            // A file may have a key without a name, and that one is meant then.
            assert!(
                !invalid.key().is_empty() || text.contains("\"\"") || text.contains("''"),
                "no key: {invalid}"
            );
            let (_, why) = invalid
                .to_string()
                .split_once(": got ")
                .map(|(key, why)| (key.len(), why.len()))
                .expect("key and value");
            assert!(why > 0 && invalid.has_remedy(), "no remedy: {invalid}");
        }
        Err(error @ ConfigError::Unreadable { .. }) => panic!("no file was asked for: {error}"),
    }
}
