use std::{fs, path::Path};

use super::*;
use crate::config::Config;

/// What `patchlight serve` makes of a file and of further flags.
fn serve(file: &str, flags: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, file).unwrap();
    read(&path, flags)
}

fn read(path: &Path, flags: &[&str]) -> Result<Config, String> {
    let config = ["patchlight", "serve", "--config", path.to_str().unwrap()];
    let typed = config.iter().chain(flags).map(OsString::from);
    let cli = Cli::try_read(&typed.collect::<Vec<_>>()).unwrap();
    let Some(super::super::Command::Serve(args)) = cli.command else {
        panic!("not what was typed");
    };
    Config::from_args(&args).map_err(|error| error.to_string())
}

#[test]
fn a_file_sets_what_was_not_typed() {
    let file = "model = [\"a\", \"b\"]\nmax-batch = 3\nkeep-pictures = false\ndrain-delay = \"1s\"";
    let config = serve(file, &["--drain-delay", "2s"]).unwrap();
    assert_eq!(config.policy.max_batch.get(), 3);
    assert!(!config.keep_previews);
    assert_eq!(config.drain.delay.as_secs(), 2);
    assert_eq!(config.more_models.len(), 1);
    // Models that are typed stand instead of the file's, not beside them.
    let config = serve(file, &["--model", "c"]).unwrap();
    assert_eq!((&*config.model.name, config.more_models.len()), ("c", 0));
}

#[test]
fn every_fault_is_reported_with_its_file_and_key_or_flag() {
    let file = "max-btach = 3\nmax-body = \"much\"\nthreads = [1]\nlisten = 1.5";
    let said = serve(file, &["--device", "abacus", "--model", "x"]).unwrap_err();
    for expected in [
        "settings.toml: `max-btach`",
        "settings.toml: `max-body`: `much`",
        "settings.toml: `threads`",
        "settings.toml: `listen`",
        "--device: `abacus`",
    ] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_fault() {
    let missing = read(Path::new("/no/such/file"), &["--model", "x"]).unwrap_err();
    assert!(missing.contains("/no/such/file"), "{missing}");
    assert!(serve("max-batch = = 3", &["--model", "x"]).is_err());
    let file = "max-batch = 3\nattention-store = redis://:hunter2@host\n";
    let said = serve(file, &["--model", "x"]).unwrap_err();
    assert!(said.contains("settings.toml: line 2: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn the_printed_file_is_complete_and_is_the_program_s_real_default() {
    let file = default_file();
    let table: toml::Table = file.parse().unwrap();
    for setting in settings().get_arguments() {
        let name = name(setting);
        assert!(
            setting.get_help_heading().is_some(),
            "{name} has no heading"
        );
        let set = table.contains_key(name);
        assert!(set || file.contains(&format!("\n# {name} = ")), "{name}");
        let switch = matches!(setting.get_action(), ArgAction::SetTrue);
        let default = switch || setting.get_default_values().len() == 1;
        assert_eq!(set, default, "{name}");
    }
    let model = ["--model", "x"];
    let with = serve(&file, &model).unwrap();
    let without = serve("", &model).unwrap();
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
}

#[test]
fn every_flag_is_an_environment_variable() {
    for command in [Cli::command()].iter().flat_map(|cli| {
        let mut all: Vec<Command> = cli.get_subcommands().cloned().collect();
        all.push(cli.clone());
        all
    }) {
        for flag in command
            .get_arguments()
            .filter(|flag| flag.get_long().is_some())
        {
            let name = name(flag);
            if ["help", "version", "print-config", "list-families"].contains(&name) {
                continue;
            }
            let expected = format!("PATCHLIGHT_{}", name.to_uppercase().replace('-', "_"));
            let variable = flag
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            assert_eq!(variable, Some(expected), "{} --{name}", command.get_name());
        }
    }
}

#[test]
fn the_keys_that_seal_maps_are_named_by_either_flag() {
    for flag in ["--signing-key-file", "--sealing-key-file"] {
        let typed = ["patchlight", "serve", flag, "keys"].map(OsString::from);
        let cli = Cli::try_read(&typed).unwrap();
        let Some(super::super::Command::Serve(args)) = cli.command else {
            panic!("{flag} is not understood");
        };
        assert_eq!(args.signing_key_file.as_deref(), Some(Path::new("keys")));
    }
}
