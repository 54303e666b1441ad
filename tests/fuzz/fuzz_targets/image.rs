#![no_main]

use std::{collections::BTreeSet, panic, sync::Mutex};

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fenced_panics_are_no_findings(), |data: &[u8]| patchlight::fuzzing::image(data));

/// Decoders may panic, behind a fence: a panic that comes through it is the finding. libFuzzer's
/// own hook would end the process at once. Each place is reported the first time.
fn fenced_panics_are_no_findings() {
    let seen = Mutex::new(BTreeSet::new());
    panic::set_hook(Box::new(move |error| {
        let place = error.location().map(ToString::to_string);
        if seen.lock().is_ok_and(|mut seen| seen.insert(place)) {
            eprintln!("{error}");
        }
    }));
}
