//! An OCI image of Gatehouse, made without a container engine: the static executable that the Dockerfile builds, in the
//! same two layers' worth of files, as an image layout and as one archive of it.
//!
//! The same files make the same layers: entries are sorted and carry no times or owners. The image's creation time is
//! that of the commit.

mod build;
mod layer;
mod layout;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub use build::{Architecture, is_static};
pub use layout::{ARCHIVE, LAYOUT, Written};

/// What goes into an image.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder to write to: the image layout `layout`, and `gatehouse.tar` with the same content
    #[arg(long, value_name = "DIR", default_value = "target/image")]
    pub output: PathBuf,
    /// Architecture of the executable; repeat it for an image of several [default: this machine's]
    ///
    /// Another one than this machine's needs its Rust target (rustup target add) and its linker (for arm64 Debian's
    /// gcc-aarch64-linux-gnu).
    #[arg(long, value_enum)]
    pub platform: Vec<Architecture>,
    /// Name that the archive gives to the image when it is loaded
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("gatehouse:", env!("CARGO_PKG_VERSION")))]
    pub tag: String,
    /// Feature of Gatehouse to build with, such as otel; can be repeated
    #[arg(long)]
    pub features: Vec<String>,
    /// Take this static executable instead of building one, which takes minutes
    #[arg(long, value_name = "FILE", conflicts_with = "features")]
    pub executable: Option<PathBuf>,
}

/// Builds the image and prints what it consists of.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let written = write(&arguments).await?;
    println!("{written}");
    Ok(ExitCode::SUCCESS)
}

/// Builds the image.
///
/// # Errors
/// An executable that does not build or is not static, or a file that cannot be read or written.
pub async fn write(arguments: &Arguments) -> anyhow::Result<Written> {
    let mut platforms = arguments.platform.clone();
    platforms.dedup();
    if platforms.is_empty() {
        platforms.push(Architecture::of_this_machine()?);
    }
    let common = layer::common()?;
    let mut image = layout::Layout::begin(&arguments.output, &arguments.tag, created()?)?;
    for platform in platforms {
        let executable = match &arguments.executable {
            Some(given) => given.clone(),
            None => build::executable(platform, &arguments.features).await?,
        };
        let content =
            std::fs::read(&executable).with_context(|| format!("cannot read {}", executable.display()))?;
        build::check(&executable, &content, platform)?;
        image.add(platform, &[&common, &layer::executable(&content)?])?;
    }
    image.finish()
}

/// When the sources were made: SOURCE_DATE_EPOCH, else the time of the commit, else 1970.
fn created() -> anyhow::Result<jiff::Timestamp> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => given.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}, no number"))?,
        Err(_) => build::commit_time().unwrap_or_default(),
    };
    let time = Duration::from_secs(seconds);
    jiff::Timestamp::from_duration(time.try_into()?).context("SOURCE_DATE_EPOCH is out of range")
}
