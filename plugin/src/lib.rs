//! The kubectl plugin: commands for people and for CI that ask the Gatehouse API of a cluster.
//!
//! It is a client like any other: it knows the API's types and nothing of the servers. What is shown is printed once
//! it is complete; what acts prints each step.

mod act;
mod causes;
mod chain;
mod clusters;
mod complete;
mod connection;
mod error;
mod fit;
mod known;
mod many;
mod object;
mod output;
mod problems;
mod quota;
mod reconcile;
mod rows;
mod suspend;
mod suspension;
mod table;
mod tree;
mod wait;
mod why;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

pub use clusters::{ClusterCondition, ClusterRow, RegistrationsArgs};
pub use complete::Line;
pub use connection::{Connection, ConnectionArgs};
pub use error::{PluginError, exit};
pub use output::Terminal;
pub use table::Table;

/// The commands.
#[expect(missing_docs, reason = "clap shows what their arguments say, unless a variant has words of its own")]
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    Why(why::WhyArgs),
    Tree(tree::TreeArgs),
    Reconcile(reconcile::ReconcileArgs),
    Suspend(suspend::SuspendArgs),
    Resume(suspend::ResumeArgs),
    Quota(quota::QuotaArgs),
    Clusters(clusters::ClustersArgs),
}

/// Runs a command, prints what it shows, and returns the exit code.
pub async fn run(
    command: Command,
    connection: &Connection,
    terminal: Terminal,
    out: &mut dyn Write,
) -> Result<u8, PluginError> {
    let ran = match command {
        Command::Why(args) => args.run(connection, terminal, out).await,
        Command::Tree(args) => args.run(connection, terminal, out).await.map(|()| exit::OK),
        Command::Reconcile(args) => args.run(connection, terminal, out).await.map(|()| exit::OK),
        Command::Suspend(args) => args.run(connection, out).await.map(|()| exit::OK),
        Command::Resume(args) => args.run(connection, out).await.map(|()| exit::OK),
        Command::Quota(args) => args.run(connection, out).await,
        Command::Clusters(args) => args.run(connection, out).await.map(|()| exit::OK),
    };
    match ran.and_then(|code| out.flush().map(|()| code).map_err(PluginError::Write)) {
        // The reader, such as `head`, has closed the pipe.
        Err(PluginError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit::OK),
        ran => ran,
    }
}
