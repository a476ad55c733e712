//! Builds the executable as the Dockerfile does, and checks that it needs no libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use tokio::process::Command;

use crate::progress;

/// An architecture that images are made for, by its OCI (Go) name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// # Errors
    /// It is none of these.
    pub fn of_this_machine() -> anyhow::Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("images are made for amd64 and arm64; this machine is {other}"),
        }
    }

    fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The linker and C compiler for it on Debian, where this machine's own do not do.
    fn cross_compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// `e_machine` of an ELF file.
    fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is part of a workspace")
}

/// Seconds since 1970 of the commit that is checked out, if this is a repository.
pub(super) fn commit_time() -> Option<u64> {
    let args = ["log", "-1", "--format=%ct"];
    let output = Blocking::new("git").args(args).current_dir(workspace()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Builds the static executable, which takes minutes.
pub(super) async fn executable(platform: Architecture, features: &[String]) -> anyhow::Result<PathBuf> {
    let what = format!("building gatehouse for {}", platform.triple());
    progress::during(what, build(platform, features)).await
}

async fn build(platform: Architecture, features: &[String]) -> anyhow::Result<PathBuf> {
    let triple = platform.triple();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |folder| workspace().join(folder));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--profile", "dist", "--locked", "--quiet"])
        .args(["--package", "gatehouse", "--bin", "gatehouse", "--target", triple])
        .args(["--features", &features.join(",")])
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DIST_STRIP", "symbols")
        .env("RUSTFLAGS", flags()?)
        .current_dir(workspace())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if platform != Architecture::of_this_machine()? {
        let variable = triple.to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{variable}_LINKER"), platform.cross_compiler());
    }
    let status = command.status().await.context("cannot run cargo")?;
    ensure!(
        status.success(),
        "gatehouse does not build for {triple}; another architecture than this machine's needs `rustup target add \
         {triple}` and {}",
        platform.cross_compiler()
    );
    Ok(target.join(triple).join("dist/gatehouse"))
}

/// Links statically, and keeps paths of this machine out of the executable.
fn flags() -> anyhow::Result<OsString> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor a home folder is known")?;
    let mut flags = OsString::from("-C target-feature=+crt-static");
    for (folder, name) in [(workspace(), "."), (&cargo_home, "/cargo")] {
        flags.push(" --remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// An executable that an image without libraries cannot start is refused.
pub(super) fn check(path: &Path, content: &[u8], platform: Architecture) -> anyhow::Result<()> {
    let path = path.display();
    let machine = content.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    ensure!(content.starts_with(b"\x7fELF\x02\x01"), "{path} is no 64-bit ELF executable");
    ensure!(machine == Some(platform.machine()), "{path} is for another architecture than {platform:?}");
    ensure!(is_static(content), "{path} needs shared libraries, which the image does not have");
    Ok(())
}

/// Whether a 64-bit little-endian ELF executable names no program interpreter (`PT_INTERP`; see elf(5)).
pub fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| {
        let field = elf.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte)))
    };
    let headers = || {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|at| number(usize::try_from(start.checked_add(at * size)?).ok()?, 4))
            .collect::<Option<Vec<_>>>()
    };
    headers().is_some_and(|types| !types.is_empty() && !types.contains(&u64::from(PT_INTERP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file header and one program header of a type.
    fn elf(kind: u8) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[18], elf[32], elf[54], elf[56], elf[64]) = (62, 64, 56, 1, kind);
        elf
    }

    #[test]
    fn executable_with_interpreter_is_not_static() {
        assert!(is_static(&elf(1)));
        assert!(!is_static(&elf(3)));
        assert!(!is_static(&elf(1)[..64]), "headers are cut off");
        assert!(!is_static(b""));
    }

    #[test]
    fn what_an_image_cannot_start_is_refused_by_name() {
        let refused = |content: &[u8], platform| {
            check(Path::new("gatehouse"), content, platform).expect_err("refused").to_string()
        };
        assert_eq!(refused(b"#!/bin/sh", Architecture::Amd64), "gatehouse is no 64-bit ELF executable");
        let other = refused(&elf(1), Architecture::Arm64);
        assert_eq!(other, "gatehouse is for another architecture than Arm64");
        let dynamic = refused(&elf(3), Architecture::Amd64);
        assert_eq!(dynamic, "gatehouse needs shared libraries, which the image does not have");
        check(Path::new("gatehouse"), &elf(1), Architecture::Amd64).expect("static");
    }
}
