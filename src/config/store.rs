//! Where maps are kept: several flags that only together make sense.

use std::path::Path;

use super::faults::Faults;
use crate::{
    args::ServeArgs,
    secret_file::{SecretFile, SecretFileError},
    store::{Place, RedisAddress, SigningKeys, StoreOptions},
};

/// What was typed for `--attention-store`.
enum Named {
    Memory,
    Signed,
    Redis(Box<RedisAddress>),
}

pub(super) fn read(
    args: &ServeArgs,
    keep_pictures: Option<bool>,
    faults: &mut Faults,
) -> Option<StoreOptions> {
    let ttl = faults.duration("--attention-ttl", &args.attention_ttl);
    let bytes = faults.size("--attention-memory", &args.attention_memory);
    let named = named(args, faults);
    let keys = args.signing_key_file.as_deref().map(SigningKeys::load);
    let keys = faults.take("--signing-key-file", keys.transpose());
    let place = match (named?, keys?) {
        (Named::Memory, _) => Place::Memory,
        (Named::Signed, Some(keys)) => Place::Signed(keys),
        (Named::Redis(address), Some(keys)) => Place::Redis(address, Some(keys)),
        (Named::Redis(address), None) if keep_pictures == Some(false) => {
            Place::Redis(address, None)
        }
        (Named::Signed, None) => {
            faults.add(
                "--signing-key-file",
                "--attention-store signed needs a key to sign with; \
                 `head -c 32 /dev/urandom | base64` makes one",
            );
            return None;
        }
        (Named::Redis(_), None) => {
            faults.add(
                "--signing-key-file",
                "pictures are sealed before they go to Redis, which needs a key \
                 (`head -c 32 /dev/urandom | base64` makes one); or set --keep-pictures false",
            );
            return None;
        }
    };
    Some(StoreOptions {
        place,
        bytes: bytes?,
        ttl: ttl?,
    })
}

fn named(args: &ServeArgs, faults: &mut Faults) -> Option<Named> {
    let (flag, text) = match (&args.attention_store, args.attention_store_file.as_deref()) {
        (None, None) => return Some(Named::Memory),
        (Some(typed), None) => ("--attention-store", typed.expose().to_owned()),
        (None, Some(path)) => {
            let flag = "--attention-store-file";
            (flag, faults.take(flag, first_line(path))?)
        }
        (Some(_), Some(_)) => {
            faults.add(
                "--attention-store-file",
                "it says the same as --attention-store; give one of them",
            );
            return None;
        }
    };
    match text.as_str() {
        "memory" => Some(Named::Memory),
        "signed" => Some(Named::Signed),
        address => {
            let address = address.parse();
            let address = address.map_err(|why| format!("neither memory nor signed, and {why}"));
            let address = faults.take(flag, address).map(Box::new);
            address.map(Named::Redis)
        }
    }
}

fn first_line(path: &Path) -> Result<String, SecretFileError> {
    let file = SecretFile::read(path)?;
    Ok(file
        .text()?
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::*;
    use crate::args::Secret;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    const REDIS: &str = "redis://:hunter2@localhost";

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn place(args: &ServeArgs, pictures: bool) -> Result<Place, String> {
        let mut faults = Faults::default();
        let options = read(args, Some(pictures), &mut faults);
        let options = faults.into_result(options).map_err(|why| why.to_string())?;
        Ok(options.place)
    }

    fn args(store: &str, keys: Option<&NamedTempFile>) -> ServeArgs {
        ServeArgs {
            attention_store: Some(Secret::from(store.to_owned())),
            signing_key_file: keys.map(|file| file.path().to_owned()),
            ..ServeArgs::default()
        }
    }

    #[test]
    fn memory_needs_nothing() {
        assert!(matches!(
            place(&args("memory", None), true),
            Ok(Place::Memory)
        ));
        assert!(matches!(
            place(&ServeArgs::default(), true),
            Ok(Place::Memory)
        ));
    }

    #[test]
    fn what_leaves_the_process_needs_a_key() {
        let key = file(KEY);
        assert!(place(&args("signed", None), true).is_err());
        assert!(place(&args(REDIS, None), true).is_err());
        let signed = place(&args("signed", Some(&key)), true);
        assert!(matches!(signed, Ok(Place::Signed(_))));
        let sealed = place(&args(REDIS, Some(&key)), true);
        assert!(matches!(sealed, Ok(Place::Redis(_, Some(_)))));
        // Maps without pictures may lie there as they are.
        let plain = place(&args(REDIS, None), false);
        assert!(matches!(plain, Ok(Place::Redis(_, None))));
    }

    #[test]
    fn an_address_may_come_from_a_file_but_not_from_two_places() {
        let (key, address) = (file(KEY), file(&format!("{REDIS}\n")));
        let mut args = args("signed", Some(&key));
        args.attention_store_file = Some(address.path().to_owned());
        assert!(place(&args, true).is_err());
        args.attention_store = None;
        assert!(matches!(place(&args, true), Ok(Place::Redis(..))));
    }

    #[test]
    fn a_password_is_in_no_complaint_and_no_debug_output() {
        for wrong in [
            "redis://:hunter2@",
            "rediss://:hunter2@host/#insecure",
            "hunter2",
        ] {
            let args = args(wrong, None);
            let why = place(&args, true).unwrap_err();
            assert!(
                !why.contains("hunter2") && why.contains("--attention-store"),
                "{why}"
            );
            assert!(!format!("{args:?}").contains("hunter2"));
        }
        let place = place(&args(REDIS, Some(&file(KEY))), true).unwrap();
        assert!(!format!("{place:?}").contains("hunter2"));
    }
}
