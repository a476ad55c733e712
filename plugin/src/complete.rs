//! Completion as kubectl asks for it: it runs `kubectl_complete-gatehouse` with the words behind `kubectl gatehouse`, of
//! which the last is to be completed, in every shell alike. Answers are one per line, with an explanation behind a tab; a
//! last line tells the shell what to do with them. That is the protocol of cobra, which kubectl is made with.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};

use crate::{
    connection::{Connection, ConnectionArgs, Location},
    object::{Target, kinds},
    rows::Rows,
};

/// The directive for the shell: complete files, or take the answers as they are, without a space after them.
const DEFAULT: u8 = 0;
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

/// A command line of which the last word is to be completed.
#[derive(Debug)]
pub struct Line {
    word: String,
    wanted: Wanted,
    /// The flags before the word that say which cluster to ask.
    pub connection: ConnectionArgs,
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these, each with an explanation.
    Words(Vec<(String, String)>),
    Objects,
    Namespaces,
    Contexts,
    Files,
}

impl Line {
    /// Finds out what the last word may be. `command` is the whole command line of the plugin.
    pub fn parse(mut command: Command, words: &[String]) -> Self {
        command.build();
        let (word, before) = words.split_last().map_or(("", &[][..]), |(word, before)| (&**word, before));
        let mut command = &command;
        let mut connection = ConnectionArgs::default();
        // A flag whose value comes next.
        let mut awaiting: Option<&Arg> = None;
        for text in before {
            if let Some(arg) = awaiting.take() {
                connection.set(arg.get_id().as_str(), text);
            } else if let Some((arg, value)) = flag(command, text) {
                match value {
                    Some(value) => connection.set(arg.get_id().as_str(), value),
                    None if takes_value(arg) => awaiting = Some(arg),
                    None => {}
                }
            } else if let Some(subcommand) = command.find_subcommand(text) {
                command = subcommand;
            }
        }
        let (word, wanted) = match (awaiting, flag(command, word)) {
            // `--state Failed,St`: as well.
            (Some(arg), _) => match value_of(arg) {
                Wanted::Words(words) => {
                    (word, Wanted::Words(behind(&word[..word.len() - last_of(arg, word).len()], words)))
                }
                wanted => (word, wanted),
            },
            // `--output=js`: the shell completes the whole word.
            (None, Some((arg, Some(value)))) => {
                let Wanted::Words(words) = value_of(arg) else {
                    return Self { word: value.to_owned(), wanted: value_of(arg), connection };
                };
                (word, Wanted::Words(behind(&word[..word.len() - last_of(arg, value).len()], words)))
            }
            _ if word.starts_with('-') => (word, Wanted::Words(flags(command))),
            _ if command.has_subcommands() => (word, Wanted::Words(subcommands(command))),
            _ => (word, command.get_positionals().next().map_or(Wanted::Words(Vec::new()), value_of)),
        };
        Self { word: word.to_owned(), wanted, connection }
    }

    /// Whether the answer needs a cluster.
    pub fn asks_the_cluster(&self) -> bool {
        match self.wanted {
            Wanted::Namespaces => true,
            Wanted::Objects => self.word.contains('/'),
            _ => false,
        }
    }

    /// The answer. Without a connection, or if the cluster refuses, there is nothing to choose from.
    pub async fn answer(self, connection: Option<&Connection>) -> String {
        let (words, directive) = match self.wanted {
            Wanted::Words(words) => (words, NO_FILES),
            Wanted::Files => (Vec::new(), DEFAULT),
            Wanted::Contexts => (contexts(), NO_FILES),
            Wanted::Namespaces => (namespaces(connection).await, NO_FILES),
            Wanted::Objects => match self.word.split_once('/') {
                Some((kind, _)) => (objects(connection, kind).await, NO_FILES),
                None => (kinds_like(&self.word), NO_FILES | NO_SPACE),
            },
        };
        let mut out = String::new();
        for (word, about) in words.iter().filter(|(word, _)| word.starts_with(&self.word)) {
            let _ = writeln!(out, "{word}\t{}", about.lines().next().unwrap_or_default());
        }
        out + &format!(":{directive}\n")
    }
}

/// The flag that a word is, with the value that it carries.
fn flag<'a, 'b>(command: &'a Command, word: &'b str) -> Option<(&'a Arg, Option<&'b str>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name))?;
        return Some((arg, value));
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
    let value = letters.as_str();
    Some((arg, if value.is_empty() { None } else { Some(value.strip_prefix('=').unwrap_or(value)) }))
}

/// The last value of a list, of a flag that takes one.
fn last_of<'a>(arg: &Arg, value: &'a str) -> &'a str {
    match arg.get_value_delimiter() {
        Some(delimiter) => value.rsplit(delimiter).next().unwrap_or_default(),
        None => value,
    }
}

fn behind(start: &str, words: Vec<(String, String)>) -> Vec<(String, String)> {
    words.into_iter().map(|(word, about)| (format!("{start}{word}"), about)).collect()
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|number| number.takes_values())
}

/// What a value may be.
fn value_of(arg: &Arg) -> Wanted {
    match arg.get_id().as_str() {
        "target" | "targets" => return Wanted::Objects,
        "namespace" => return Wanted::Namespaces,
        "context" => return Wanted::Contexts,
        _ => {}
    }
    if matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath) {
        return Wanted::Files;
    }
    let values = arg.get_possible_values().into_iter();
    let help =
        |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string).unwrap_or_default();
    Wanted::Words(values.map(|value| (value.get_name().to_owned(), help(&value))).collect())
}

fn flags(command: &Command) -> Vec<(String, String)> {
    let visible = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let help = |arg: &Arg| arg.get_help().map(ToString::to_string).unwrap_or_default();
    visible.filter_map(|arg| Some((format!("--{}", arg.get_long()?), help(arg)))).collect()
}

fn subcommands(command: &Command) -> Vec<(String, String)> {
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    visible.map(|command| (command.get_name().to_owned(), about(command))).collect()
}

/// The kinds of Flux: by the shortest name each, and by more as soon as something was typed.
fn kinds_like(word: &str) -> Vec<(String, String)> {
    let all = kinds().flat_map(|(kind, short)| {
        let long = kind.to_lowercase();
        let is_other = !word.is_empty() && short != long;
        [Some(short.to_owned()), is_other.then_some(long)].into_iter().flatten().map(move |name| (name, kind))
    });
    all.map(|(name, kind)| (format!("{name}/"), kind.to_owned())).collect()
}

fn contexts() -> Vec<(String, String)> {
    let kubeconfig = kube::config::Kubeconfig::read().unwrap_or_default();
    kubeconfig.contexts.into_iter().map(|context| (context.name, String::new())).collect()
}

/// Namespaces with Flux objects, as far as the user may list them over all.
async fn namespaces(connection: Option<&Connection>) -> Vec<(String, String)> {
    let Some(connection) = connection else { return Vec::new() };
    let location = Location { resource: "fluxsummaries", ..Location::default() };
    let Ok(list) = connection.get(location, &[]).await else { return Vec::new() };
    let items = list["items"].as_array().into_iter().flatten();
    let names = items.filter_map(|item| item.pointer("/metadata/namespace")?.as_str());
    names.collect::<BTreeSet<_>>().into_iter().map(|name| (name.to_owned(), String::new())).collect()
}

/// The objects of a kind in the namespace, under the name of the kind that was typed.
async fn objects(connection: Option<&Connection>, typed: &str) -> Vec<(String, String)> {
    let Some(connection) = connection else { return Vec::new() };
    // Any name will do: the kind is what is looked for.
    let Ok(Target::Object { kind, .. }) = format!("{typed}/x").parse() else { return Vec::new() };
    let Ok(rows) = Rows::new(connection).list(Some(&connection.namespace)).await else { return Vec::new() };
    let of_kind = rows.into_iter().filter(|row| row.status.kind.eq_ignore_ascii_case(&kind));
    of_kind.map(|row| (format!("{typed}/{}", row.status.name), row.status.state)).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Subcommand as _};

    use super::*;

    fn line(words: &[&str]) -> Line {
        let command = ConnectionArgs::augment_args(Command::new("kubectl gatehouse"));
        let command = crate::Command::augment_subcommands(command);
        Line::parse(command, &words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    /// The answers without their descriptions, and the directive for the shell.
    async fn answers(words: &[&str]) -> (Vec<String>, String) {
        let answer = line(words).answer(None).await;
        let mut lines: Vec<String> =
            answer.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
        let directive = lines.pop().expect("a directive");
        (lines, directive)
    }

    #[tokio::test]
    async fn commands_flags_and_values_are_completed() {
        assert_eq!(answers(&["re"]).await, (vec!["reconcile".into(), "resume".into()], ":4".into()));
        assert_eq!(answers(&["suspend", "--unt"]).await.0, ["--until"]);
        assert_eq!(answers(&["why", "ks/a", "-o", "y"]).await.0, ["yaml"]);
        assert_eq!(answers(&["why", "--output=y"]).await.0, ["--output=yaml"]);
        assert_eq!(answers(&["why", "--kubeconfig", ""]).await, (Vec::new(), ":0".into()));
        let states = answers(&["reconcile", "--all", "--state", "F"]).await;
        assert_eq!(states, (vec!["Failing".into(), "Failed".into()], ":4".into()));
        assert_eq!(answers(&["suspend", "--state", "Failed,St"]).await.0, ["Failed,Stalled"]);
        assert_eq!(answers(&["suspend", "--state=Failed,St"]).await.0, ["--state=Failed,Stalled"]);
        // A global flag before the command hides nothing.
        assert_eq!(answers(&["-n", "team-a", "res"]).await.0, ["resume"]);
    }

    #[tokio::test]
    async fn kinds_are_completed_up_to_their_slash() {
        assert_eq!(answers(&["why", "k"]).await, (vec!["ks/".into(), "kustomization/".into()], ":6".into()));
        assert!(answers(&["reconcile", "--wait", ""]).await.0.contains(&"hr/".to_owned()));
    }

    #[test]
    fn the_cluster_is_asked_as_the_line_says() {
        let objects = line(&["why", "-nteam-a", "--context=b", "ks/"]);
        assert!(objects.wanted == Wanted::Objects && objects.asks_the_cluster());
        assert_eq!(objects.connection.context(), Some("b"));
        assert!(format!("{:?}", objects.connection).contains("team-a"));
        assert!(line(&["tree", "-n", "te"]).wanted == Wanted::Namespaces);
        assert!(!line(&["why", "k"]).asks_the_cluster());
    }
}
