//! Settings of `serve` from a TOML file, below what was typed and what the environment says.
//!
//! The file's keys are the flags' names. Its values are put among the flags as if they had been
//! typed, where neither the command line nor the environment says anything: so they mean the same,
//! and what is wrong with them is found by the same code.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, parser::ValueSource,
};

use super::{Cli, ServeArgs};
use crate::{
    escape::Excerpt,
    secret_file::{Flaw, SecretFile, SecretFileError},
};

/// Flags that say what to do and are no settings.
const NO_SETTINGS: [&str; 2] = ["config", "print-config"];

/// Where settings come from that were not typed, and what is wrong with the file as a whole.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// What to call a flag's value in messages, by flag.
    origins: BTreeMap<String, String>,
    /// What cannot be said of a flag.
    pub(crate) faults: Vec<String>,
}

impl Cli {
    /// Reads the command line, the environment, and the file that `--config` names. Ends the
    /// program with a message on wrong usage.
    pub fn read(typed: impl IntoIterator<Item = OsString>) -> Self {
        let typed: Vec<OsString> = typed.into_iter().collect();
        Self::try_read(&typed).unwrap_or_else(|why| why.exit())
    }

    fn try_read(typed: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(typed)?;
        let (serve, first) = match matches.subcommand() {
            None => (&matches, 1),
            Some(("serve", serve)) => (serve, 2),
            Some(_) => return Self::from_arg_matches(&matches),
        };
        let mut layers = Layers::default();
        let extra = layers.read(serve);
        let (before, after) = typed.split_at(first.min(typed.len()));
        let all = before.iter().chain(&extra).chain(after);
        let matches = Self::command().try_get_matches_from(all)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        match &mut cli.command {
            Some(super::Command::Serve(serve)) => serve.layers = layers,
            _ => cli.serve.layers = layers,
        }
        Ok(cli)
    }
}

impl Layers {
    /// What to call this flag in a message: the file and key or the variable that set it.
    pub(crate) fn origin<'a>(&'a self, flag: &'a str) -> &'a str {
        self.origins.get(flag).map_or(flag, String::as_str)
    }

    /// The file's settings as flags, where nothing goes before them.
    fn read(&mut self, matches: &ArgMatches) -> Vec<OsString> {
        let settings = settings();
        for setting in settings.get_arguments() {
            let name = name(setting);
            let source = matches.value_source(setting.get_id().as_str());
            if let (Some(ValueSource::EnvVariable), Some(variable)) = (source, setting.get_env()) {
                let origin = format!("--{name} (from {})", variable.display());
                self.origins.insert(format!("--{name}"), origin);
            }
        }
        let Some(path) = matches.get_one::<PathBuf>("config") else {
            return Vec::new();
        };
        let file = path.display().to_string();
        // It may hold the address of a store with its password.
        let read = SecretFile::read(path).and_then(|file| table(&file));
        let table = match read {
            Ok(table) => table,
            Err(why) => {
                self.faults.push(format!("--config: {why}"));
                return Vec::new();
            }
        };
        let mut flags = Vec::new();
        for (key, value) in &table {
            let setting = settings
                .get_arguments()
                .find(|setting| name(setting) == key);
            let Some(setting) = setting else {
                self.faults.push(format!(
                    "{file}: `{}` is not a setting; a setting is called like its flag, without `--`",
                    Excerpt(key)
                ));
                continue;
            };
            match as_flags(setting, value) {
                Err(why) => self.faults.push(format!("{file}: `{key}`: {why}")),
                Ok(_) if goes_before(matches, setting) => {}
                Ok(set) => {
                    self.origins
                        .insert(format!("--{key}"), format!("{file}: `{key}`"));
                    flags.extend(set.into_iter().map(OsString::from));
                }
            }
        }
        flags
    }
}

fn table(file: &SecretFile) -> Result<toml::Table, SecretFileError> {
    let text = file.text()?;
    text.parse().map_err(|why: toml::de::Error| {
        let before = why.span().and_then(|span| text.get(..span.start));
        file.error(Flaw {
            line: before.map(|before| before.split('\n').count()),
            what: "it is not TOML: a setting is `name = value`, once, and text stands in \
                   quotation marks",
        })
    })
}

/// A configuration file that says what holds without one, with the help text of every setting.
pub fn default_file() -> String {
    let settings = settings();
    let mut headings: Vec<&str> = Vec::new();
    for setting in settings.get_arguments() {
        let heading = setting.get_help_heading().unwrap_or_default();
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut text = String::from(
        "# Settings of `patchlight serve`, as they are without this file. Flags and environment go\n\
         # before it; paths start at the working directory.\n",
    );
    for heading in headings {
        text.push_str(&format!("\n# ---- {heading} ----\n"));
        let of_heading = settings
            .get_arguments()
            .filter(|setting| setting.get_help_heading().unwrap_or_default() == heading);
        for setting in of_heading {
            text.push_str(&entry(setting));
        }
    }
    text
}

/// A setting with its help; commented out where nothing holds by default.
fn entry(setting: &Arg) -> String {
    let name = name(setting);
    let help = setting.get_help().map(ToString::to_string);
    let help = help.unwrap_or_default().replace('\n', "\n# ");
    let default = setting.get_default_values().first();
    let line = match (setting.get_action(), default) {
        (ArgAction::SetTrue, _) => format!("{name} = false"),
        (_, Some(default)) => format!("{name} = {}", literal(&default.to_string_lossy())),
        (action, None) => {
            let value = setting.get_value_names().and_then(<[_]>::first);
            let value = literal(value.map_or("…", |value| value.as_str()));
            match action {
                ArgAction::Append => format!("# {name} = [{value}]"),
                _ => format!("# {name} = {value}"),
            }
        }
    };
    format!("\n# {help}\n{line}\n")
}

/// Text as TOML: bare where it is a number or a truth value.
fn literal(text: &str) -> String {
    let value = match (text.parse(), text.parse()) {
        (Ok(number), _) => toml::Value::Integer(number),
        (_, Ok(truth)) => toml::Value::Boolean(truth),
        _ => toml::Value::String(text.to_owned()),
    };
    value.to_string()
}

/// What a file may set: the flags of `serve`.
fn settings() -> Command {
    let all = ServeArgs::augment_args(Command::new("serve"));
    let settings: Vec<Arg> = all
        .get_arguments()
        .filter(|flag| !NO_SETTINGS.contains(&name(flag)))
        .cloned()
        .collect();
    Command::new("serve").args(settings)
}

fn name(setting: &Arg) -> &str {
    setting.get_long().unwrap_or_default()
}

/// Whether the command line or the environment sets it.
fn goes_before(matches: &ArgMatches, setting: &Arg) -> bool {
    matches!(
        matches.value_source(setting.get_id().as_str()),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

/// A value of the file as it would be typed.
fn as_flags(setting: &Arg, value: &toml::Value) -> Result<Vec<String>, &'static str> {
    let flag = name(setting);
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(format!("--{flag}={text}")),
        toml::Value::Integer(number) => Ok(format!("--{flag}={number}")),
        toml::Value::Boolean(truth) => Ok(format!("--{flag}={truth}")),
        _ => Err("it must be text, a whole number, true or false"),
    };
    match (setting.get_action(), value) {
        (ArgAction::SetTrue, toml::Value::Boolean(true)) => Ok(vec![format!("--{flag}")]),
        (ArgAction::SetTrue, toml::Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err("it must be true or false"),
        (ArgAction::Append, toml::Value::Array(values)) => values.iter().map(text).collect(),
        (_, toml::Value::Array(_)) => Err("it takes one value, not a list"),
        (_, value) => Ok(vec![text(value)?]),
    }
}

#[cfg(test)]
mod tests;
