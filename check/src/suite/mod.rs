//! Tests policies: each case is a request with the expected decision.
//!
//! A request passes through the code of the webhooks: marks and defaults first ([`gatehouse_policy::mutation`]), then
//! the rules of each policy that selects the namespace, then the quotas.
//!
//! **Invariant:** A test that cannot fail is an error: a rule that no policy has, an object that no policy reads, a
//! suite without cases.

mod compare;
mod decide;
mod find;
mod format;
mod output;
mod request;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::Timestamp;
use regex::Regex;
use serde::Serialize;

use self::{decide::decide, request::Request, world::World};
pub use self::{
    format::Decision,
    output::{
        github as tested_github, json as tested_json, junit as tested_junit, remarks as tested_remarks,
        table as tested_table,
    },
};
use crate::{
    files::Content,
    report::{Problem, Spot},
};

/// The results of all tests.
#[derive(Debug, Default, Serialize)]
pub struct Tested {
    /// The result of each case that was run, in the order of the files.
    pub results: Vec<CaseResult>,
    /// Errors that prevented a case or a test from running.
    pub problems: Vec<Problem>,
}

/// The result of a case.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// The position of the case.
    #[serde(flatten)]
    pub spot: Spot,
    /// The name of the PolicyTest.
    pub test: String,
    /// The name of the case.
    pub case: String,
    /// The expected decision.
    pub expected: Decision,
    /// The actual decision.
    pub decision: Decision,
    /// The differences from the expectation, one a line; empty if the case passed.
    pub differences: Vec<String>,
}

impl Tested {
    /// 0: every case passed; 1: one failed; 2: one could not be run.
    pub fn exit_code(&self) -> u8 {
        match &self.problems[..] {
            [] => u8::from(self.failed() > 0),
            _ => 2,
        }
    }

    /// The number of failed cases.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| !result.differences.is_empty()).count()
    }
}

/// Selects the cases to run by a regular expression over `TEST/CASE`.
#[derive(Debug, Clone)]
pub struct Filter(Regex);

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Regex::new(text).map(Self).map_err(|error| format!("not a regular expression: {error}"))
    }
}

/// The PolicyTests of files and folders.
#[derive(Debug)]
pub struct Tests {
    found: find::Found,
    filter: Option<Filter>,
}

impl Tests {
    /// Finds the tests. `filter` selects the cases to run.
    pub fn find(paths: &[PathBuf], filter: Option<Filter>) -> Self {
        Self { found: find::suites(paths), filter }
    }

    /// The policies of the selected tests that are elsewhere.
    pub fn addresses(&self) -> BTreeSet<String> {
        let suites = self.found.suites.iter().filter(|suite| !self.selected(suite).is_empty());
        suites.flat_map(|suite| suite.addresses().map(str::to_owned)).collect()
    }

    /// Runs the selected cases. `fetched`: what is at the addresses, or why it is not known. `now` is used for policies
    /// that do not depend on the time.
    pub fn run(self, fetched: &BTreeMap<String, Result<Content, String>>, now: Timestamp) -> Tested {
        let mut tested = Tested { results: Vec::new(), problems: self.found.problems.clone() };
        let mut selected = 0;
        for suite in &self.found.suites {
            let cases = self.selected(suite);
            if cases.is_empty() {
                continue;
            }
            selected += cases.len();
            let world = match World::of(suite, fetched) {
                Ok(world) => world,
                Err(problems) => {
                    tested.problems.extend(problems);
                    continue;
                }
            };
            for (index, case) in cases {
                match run(suite, &world, index, now) {
                    Ok((decision, differences)) => tested.results.push(CaseResult {
                        spot: suite.spot(&format!("cases[{index}]")),
                        test: suite.test.metadata.name.clone(),
                        case: case.name.clone(),
                        expected: case.expect.decision,
                        decision,
                        differences,
                    }),
                    Err(problems) => tested.problems.extend(problems),
                }
            }
        }
        if selected == 0 && tested.problems.is_empty() {
            let message = match self.filter {
                Some(Filter(regex)) => format!("no case is selected by --run {:?}", regex.as_str()),
                None => "no case to run".to_owned(),
            };
            tested.problems.push(Problem { spot: Spot::file("gatehouse".to_owned()), message });
        }
        tested
    }

    /// The cases of a test that the filter selects, with their indexes.
    fn selected<'a>(&self, suite: &'a find::Suite) -> Vec<(usize, &'a format::Case)> {
        let is_selected = |name: &str| {
            let of = &suite.test.metadata.name;
            self.filter.as_ref().is_none_or(|Filter(regex)| regex.is_match(&format!("{of}/{name}")))
        };
        suite.test.cases.iter().enumerate().filter(|(_, case)| is_selected(&case.name)).collect()
    }
}

/// Runs a case: its decision, and the differences from the expectation.
fn run(
    suite: &find::Suite,
    world: &World,
    index: usize,
    now: Timestamp,
) -> Result<(Decision, Vec<String>), Vec<Problem>> {
    let case = &suite.test.cases[index];
    let request = Request::of(suite, world, index, now).map_err(|problem| vec![problem])?;
    let unknown = compare::unknown(suite, world, index);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let decided = decide(world, &request).map_err(|message| {
        vec![Problem {
            spot: suite.spot(&format!("cases[{index}]")),
            message: format!("{}: {message}", case.name),
        }]
    })?;
    let differences = compare::differences(&case.expect, &decided);
    Ok((decided.decision, differences))
}

#[cfg(test)]
mod tests;
