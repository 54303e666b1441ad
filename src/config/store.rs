//! Where maps are kept: several flags that only together make sense.

use std::path::Path;

use super::errors::ConfigErrors;
use crate::{
    args::ServeArgs,
    secret_file::{SecretFile, SecretFileError},
    store::{RedisAddress, SealingKeys, StoreKind, StoreOptions},
};

/// What was typed for `--attention-store`.
enum StoreFlag {
    Memory,
    SealedToken,
    Redis(Box<RedisAddress>),
}

pub(super) fn read(
    args: &ServeArgs,
    keep_previews: Option<bool>,
    errors: &mut ConfigErrors,
) -> Option<StoreOptions> {
    let ttl = errors.duration("--attention-ttl", &args.attention_ttl);
    let bytes = errors.size("--attention-memory", &args.attention_memory);
    let named = named(args, errors);
    let keys = args.signing_key_file.as_deref().map(SealingKeys::load);
    let keys = errors.take("--signing-key-file", keys.transpose());
    let kind = match (named?, keys?) {
        (StoreFlag::Memory, _) => StoreKind::Memory,
        (StoreFlag::SealedToken, Some(keys)) => StoreKind::SealedToken(keys),
        (StoreFlag::Redis(address), Some(keys)) => StoreKind::Redis(address, Some(keys)),
        (StoreFlag::Redis(address), None) if keep_previews == Some(false) => {
            StoreKind::Redis(address, None)
        }
        (StoreFlag::SealedToken, None) => {
            errors.add(
                "--signing-key-file",
                "--attention-store signed needs a key to sign with; \
                 `head -c 32 /dev/urandom | base64` makes one",
            );
            return None;
        }
        (StoreFlag::Redis(_), None) => {
            errors.add(
                "--signing-key-file",
                "images are sealed before they go to Redis, which needs a key \
                 (`head -c 32 /dev/urandom | base64` makes one); or set --keep-pictures false",
            );
            return None;
        }
    };
    Some(StoreOptions {
        kind,
        bytes: bytes?,
        ttl: ttl?,
    })
}

fn named(args: &ServeArgs, errors: &mut ConfigErrors) -> Option<StoreFlag> {
    let (flag, text) = match (&args.attention_store, args.attention_store_file.as_deref()) {
        (None, None) => return Some(StoreFlag::Memory),
        (Some(typed), None) => ("--attention-store", typed.expose().to_owned()),
        (None, Some(path)) => {
            let flag = "--attention-store-file";
            (flag, errors.take(flag, first_line(path))?)
        }
        (Some(_), Some(_)) => {
            errors.add(
                "--attention-store-file",
                "it says the same as --attention-store; give one of them",
            );
            return None;
        }
    };
    match text.as_str() {
        "memory" => Some(StoreFlag::Memory),
        "signed" => Some(StoreFlag::SealedToken),
        address => {
            let address = address.parse();
            let address =
                address.map_err(|error| format!("neither memory nor signed, and {error}"));
            let address = errors.take(flag, address).map(Box::new);
            address.map(StoreFlag::Redis)
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

    fn kind(args: &ServeArgs, images: bool) -> Result<StoreKind, String> {
        let mut errors = ConfigErrors::default();
        let options = read(args, Some(images), &mut errors);
        let options = errors
            .into_result(options)
            .map_err(|error| error.to_string())?;
        Ok(options.kind)
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
            kind(&args("memory", None), true),
            Ok(StoreKind::Memory)
        ));
        assert!(matches!(
            kind(&ServeArgs::default(), true),
            Ok(StoreKind::Memory)
        ));
    }

    #[test]
    fn what_leaves_the_process_needs_a_key() {
        let key = file(KEY);
        assert!(kind(&args("signed", None), true).is_err());
        assert!(kind(&args(REDIS, None), true).is_err());
        let signed = kind(&args("signed", Some(&key)), true);
        assert!(matches!(signed, Ok(StoreKind::SealedToken(_))));
        let sealed = kind(&args(REDIS, Some(&key)), true);
        assert!(matches!(sealed, Ok(StoreKind::Redis(_, Some(_)))));
        // Maps without images may lie there as they are.
        let plain = kind(&args(REDIS, None), false);
        assert!(matches!(plain, Ok(StoreKind::Redis(_, None))));
    }

    #[test]
    fn an_address_may_come_from_a_file_but_not_from_two_places() {
        let (key, address) = (file(KEY), file(&format!("{REDIS}\n")));
        let mut args = args("signed", Some(&key));
        args.attention_store_file = Some(address.path().to_owned());
        assert!(kind(&args, true).is_err());
        args.attention_store = None;
        assert!(matches!(kind(&args, true), Ok(StoreKind::Redis(..))));
    }

    #[test]
    fn a_password_is_in_no_complaint_and_no_debug_output() {
        for wrong in [
            "redis://:hunter2@",
            "rediss://:hunter2@host/#insecure",
            "hunter2",
        ] {
            let args = args(wrong, None);
            let error = kind(&args, true).unwrap_err();
            assert!(
                !error.contains("hunter2") && error.contains("--attention-store"),
                "{error}"
            );
            assert!(!format!("{args:?}").contains("hunter2"));
        }
        let kind = kind(&args(REDIS, Some(&file(KEY))), true).unwrap();
        assert!(!format!("{kind:?}").contains("hunter2"));
    }
}
