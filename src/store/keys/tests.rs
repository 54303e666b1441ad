use std::fs;

use tempfile::NamedTempFile;

use super::*;
use crate::watched::LOOK_EVERY;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA";

/// Keys from a file with these lines; the file goes away, the keys stay.
pub(crate) fn keys(lines: &[&str]) -> SigningKeys {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.join("\n")).unwrap();
    SigningKeys::load(file.path()).unwrap()
}

/// Two keys that differ.
pub(crate) const KEYS: [&str; 2] = [FIRST, SECOND];

#[test]
fn what_is_sealed_opens_for_its_purpose_only() {
    let keys = keys(&[FIRST]);
    let sealed = keys.seal(Purpose::Picture(&[7; 16]), b"a picture").unwrap();
    let open = |purpose| keys.open(purpose, &sealed);
    assert_eq!(open(Purpose::Picture(&[7; 16])).unwrap(), b"a picture");
    assert_eq!(open(Purpose::Picture(&[8; 16])), None);
    assert_eq!(open(Purpose::Id), None);
    assert!(!sealed.windows(9).any(|part| part == b"a picture"));
}

#[test]
fn any_changed_bit_and_any_missing_byte_is_noticed() {
    let keys = keys(&[FIRST, SECOND]);
    let sealed = keys.seal(Purpose::Id, b"a map").unwrap();
    for place in 0..8 * sealed.len() {
        let mut changed = sealed.clone();
        changed[place / 8] ^= 1 << (place % 8);
        assert_eq!(keys.open(Purpose::Id, &changed), None, "bit {place}");
    }
    for length in 0..sealed.len() {
        assert_eq!(keys.open(Purpose::Id, &sealed[..length]), None, "{length}");
    }
}

#[test]
fn the_same_text_is_sealed_differently_each_time() {
    let keys = keys(&[FIRST]);
    let seal = || keys.seal(Purpose::Id, b"a map").unwrap();
    assert_ne!(seal(), seal());
}

/// Vector A.3.1 of draft-irtf-cfrg-xchacha-03: the cipher is the one that the draft describes.
#[test]
fn the_cipher_is_that_of_the_draft() {
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce: Vec<u8> = (0x40..0x58).collect();
    let aad = [
        0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    ];
    let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                     for the future, sunscreen would be it."
        .to_vec();
    let key = Key::new(key.try_into().unwrap());
    let nonce: [u8; NONCE] = nonce.try_into().unwrap();
    key.cipher()
        .encrypt_in_place(&XNonce::from(nonce), &aad, &mut text)
        .unwrap();
    let tag = [
        0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a, 0xcf,
        0x49,
    ];
    assert_eq!(text[..4], [0xbd, 0x6d, 0x17, 0x9d]);
    assert_eq!(text[text.len() - tag.len()..], tag);
}

#[test]
fn keys_are_changed_without_a_break() {
    let before = keys(&[FIRST]);
    let sealed = before.seal(Purpose::Id, b"old").unwrap();
    // The new key is known everywhere before anything is sealed with it.
    let known = keys(&[FIRST, SECOND]);
    let used = keys(&["# since today", SECOND, "", FIRST]);
    let fresh = used.seal(Purpose::Id, b"new").unwrap();
    assert_eq!(known.open(Purpose::Id, &fresh).unwrap(), b"new");
    assert_eq!(used.open(Purpose::Id, &sealed).unwrap(), b"old");
    // And the old one is over when it is dropped.
    let after = keys(&[SECOND]);
    assert_eq!(after.open(Purpose::Id, &fresh).unwrap(), b"new");
    assert_eq!(after.open(Purpose::Id, &sealed), None);
}

#[test]
fn a_line_that_is_no_key_is_named_and_not_repeated() {
    for (text, line) in [
        ("", 0),
        ("# nothing\n", 0),
        (&format!("{FIRST}\nAAECAwQFBgcICQoLDA0ODw==\n"), 2),
        ("not base64 at all, 32 characters\n", 1),
    ] {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let why = SigningKeys::load(file.path()).unwrap_err().to_string();
        assert!(line == 0 || why.contains(&format!("line {line}")), "{why}");
        assert!(!why.contains("AAEC") && !why.contains("at all"), "{why}");
    }
    assert!(SigningKeys::load(Path::new("/no/such/file")).is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_follow_their_file_and_survive_a_broken_one() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), FIRST).unwrap();
    let keys = SigningKeys::load(file.path()).unwrap();
    let sealed = keys.seal(Purpose::Id, b"old").unwrap();
    let watching = tokio::spawn(keys.clone().watch());
    for (text, opens) in [
        (SECOND, false),
        ("broken", false),
        (FIRST, true),
        ("", true),
    ] {
        fs::write(file.path(), text).unwrap();
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert_eq!(keys.open(Purpose::Id, &sealed).is_some(), opens, "{text}");
    }
    watching.abort();
}

#[test]
fn debug_output_does_not_give_a_key_away() {
    let shown = format!("{:?}", keys(&[FIRST]));
    assert!(
        shown.contains("Key(…)") && !shown.contains("bytes"),
        "{shown}"
    );
}
