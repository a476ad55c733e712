//! Writes an OCI image layout, and an archive of it that `docker load` reads too.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::build::Architecture;
use super::layer::Layer;

/// The folder of the layout in the output folder.
pub const LAYOUT: &str = "layout";
/// The archive of it.
pub const ARCHIVE: &str = "gatehouse.tar";
/// The file by which a folder is an image layout.
const MARKER: &str = "oci-layout";

/// As in the Dockerfile; a test compares them.
const USER: &str = "65532:65532";
const ENTRYPOINT: &str = "/gatehouse";
const PORT: &str = "6443";
const LABELS: [(&str, &str); 3] = [
    ("org.opencontainers.image.title", "Gatehouse"),
    (
        "org.opencontainers.image.description",
        "What is broken in a GitOps cluster, through the Kubernetes API; quotas and policies for its tenants",
    ),
    ("org.opencontainers.image.licenses", "Apache-2.0"),
];

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The output folder.
    pub folder: PathBuf,
    /// `sha256:…` of the manifest, or of the index where there are several platforms.
    pub digest: String,
    /// Bytes of each compressed layer, by platform.
    pub layers: Vec<(Architecture, Vec<usize>)>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "digest   {}", self.digest)?;
        for (platform, sizes) in &self.layers {
            let sizes: Vec<_> = sizes.iter().map(|bytes| format!("{} KiB", bytes.div_ceil(1024))).collect();
            writeln!(f, "layers   {} ({platform:?})", sizes.join(", "))?;
        }
        writeln!(f, "layout   {}", self.folder.join(LAYOUT).display())?;
        write!(f, "archive  {}", self.folder.join(ARCHIVE).display())
    }
}

/// An image that is being written.
pub(super) struct Layout {
    folder: PathBuf,
    tag: String,
    created: jiff::Timestamp,
    manifests: Vec<Descriptor>,
    /// Entries of `manifest.json`, which Docker reads.
    docker: Vec<serde_json::Value>,
    layers: Vec<(Architecture, Vec<usize>)>,
}

impl Layout {
    /// Replaces what an earlier run left in `folder`.
    pub(super) fn begin(folder: &Path, tag: &str, created: jiff::Timestamp) -> anyhow::Result<Self> {
        let layout = folder.join(LAYOUT);
        if layout.exists() {
            // Somebody else's folder of that name is not removed.
            let is_layout = layout.join(MARKER).is_file();
            ensure!(is_layout, "{} exists and is no image layout", layout.display());
            fs::remove_dir_all(&layout).with_context(|| format!("cannot remove {}", layout.display()))?;
        }
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot create {}", blobs.display()))?;
        let folder = folder.to_owned();
        let (manifests, docker, layers) = Default::default();
        let layout = Self { folder, tag: tag.to_owned(), created, manifests, docker, layers };
        let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
        layout.write(MARKER, &document(&marker)?)?;
        Ok(layout)
    }

    /// Adds the image of one platform.
    pub(super) fn add(&mut self, platform: Architecture, layers: &[&Layer]) -> anyhow::Result<()> {
        let arch = match platform {
            Architecture::Amd64 => Arch::Amd64,
            Architecture::Arm64 => Arch::ARM64,
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let configuration = ImageConfigurationBuilder::default()
            .created(self.created.to_string())
            .architecture(arch.clone())
            .os(Os::Linux)
            .config(config()?)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
            .history(Vec::new())
            .build()?;
        let config = self.blob(MediaType::ImageConfig, &document(&configuration)?)?;
        let blobs = layers
            .iter()
            .map(|layer| self.blob(MediaType::ImageLayerGzip, &layer.bytes))
            .collect::<anyhow::Result<Vec<_>>>()?;
        self.docker.push(json!({
            "Config": blob_path(&config),
            "RepoTags": [self.tag],
            "Layers": blobs.iter().map(blob_path).collect::<Vec<_>>(),
        }));
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(blobs)
            .build()?;
        let mut manifest = self.blob(MediaType::ImageManifest, &document(&manifest)?)?;
        manifest.set_platform(Some(PlatformBuilder::default().os(Os::Linux).architecture(arch).build()?));
        self.manifests.push(manifest);
        self.layers.push((platform, layers.iter().map(|layer| layer.bytes.len()).collect()));
        Ok(())
    }

    /// Writes the index and the archive.
    pub(super) fn finish(mut self) -> anyhow::Result<Written> {
        let mut named = match self.manifests.as_slice() {
            [one] => one.clone(),
            several => {
                let index = index(several.to_vec())?;
                self.blob(MediaType::ImageIndex, &document(&index)?)?
            }
        };
        let digest = named.digest().to_string();
        let name = HashMap::from([
            ("org.opencontainers.image.ref.name".to_owned(), self.tag.clone()),
            ("io.containerd.image.name".to_owned(), containerd_name(&self.tag)),
        ]);
        named.set_annotations(Some(name));
        self.write("index.json", &document(&index(vec![named])?)?)?;
        // Docker's form has no platforms: it names the first.
        self.docker.truncate(1);
        self.write("manifest.json", &document(&self.docker)?)?;
        self.archive()?;
        Ok(Written { folder: self.folder, digest, layers: self.layers })
    }

    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(LAYOUT).join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn blob(&self, media_type: MediaType, content: &[u8]) -> anyhow::Result<Descriptor> {
        let digest = format!("{:x}", Sha256::digest(content));
        self.write(&format!("blobs/sha256/{digest}"), content)?;
        Ok(DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest.parse::<Sha256Digest>()?)
            .size(content.len() as u64)
            .build()?)
    }

    fn archive(&self) -> anyhow::Result<()> {
        let layout = self.folder.join(LAYOUT);
        let path = self.folder.join(ARCHIVE);
        let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        archive.mode(tar::HeaderMode::Deterministic);
        let mut blobs: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))?
            .map(|entry| Ok(format!("blobs/sha256/{}", entry?.file_name().display())))
            .collect::<std::io::Result<_>>()?;
        blobs.sort();
        let documents = [MARKER, "index.json", "manifest.json"].map(str::to_owned);
        for name in documents.iter().chain(&blobs) {
            archive.append_path_with_name(layout.join(name), name)?;
        }
        archive.into_inner()?.sync_all()?;
        Ok(())
    }
}

fn config() -> anyhow::Result<Config> {
    let labels = LABELS.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(ConfigBuilder::default()
        .user(USER)
        .entrypoint(vec![ENTRYPOINT.to_owned()])
        .exposed_ports(vec![format!("{PORT}/tcp")])
        .labels::<HashMap<_, _>>(labels)
        .build()?)
}

fn index(manifests: Vec<Descriptor>) -> anyhow::Result<oci_spec::image::ImageIndex> {
    Ok(ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?)
}

/// JSON with sorted keys: maps of the format's types have no order, and the same image must have the same digest.
fn document(value: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    serde_json::to_vec(&value)
}

fn blob_path(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest().digest())
}

/// containerd knows images by their full name only: Docker Hub's where there is no host.
fn containerd_name(tag: &str) -> String {
    let host = tag.split_once('/').map(|(host, _)| host);
    match host {
        Some(host) if host.contains(['.', ':']) || host == "localhost" => tag.to_owned(),
        Some(_) => format!("docker.io/{tag}"),
        None => format!("docker.io/library/{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const DOCKERFILE: &str = include_str!("../../../Dockerfile");

    fn written(tag: &str, platforms: &[Architecture]) -> (tempfile::TempDir, Written) {
        let folder = tempfile::tempdir().expect("folder");
        let mut layout = Layout::begin(folder.path(), tag, jiff::Timestamp::UNIX_EPOCH).expect("folder");
        let layer = Layer { bytes: b"compressed".to_vec(), diff_id: "0".repeat(64) };
        for &platform in platforms {
            layout.add(platform, &[&layer]).expect("added");
        }
        let written = layout.finish().expect("written");
        (folder, written)
    }

    fn read(folder: &Path, name: &str) -> Value {
        let path = folder.join(LAYOUT).join(name);
        serde_json::from_slice(&fs::read(path).expect("file")).expect("JSON")
    }

    fn blob(folder: &Path, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().expect("digest").trim_start_matches("sha256:");
        let content = fs::read(folder.join(LAYOUT).join("blobs/sha256").join(digest)).expect("blob");
        assert_eq!(format!("{:x}", Sha256::digest(&content)), digest);
        assert_eq!(descriptor["size"], content.len());
        serde_json::from_slice(&content).expect("JSON")
    }

    #[test]
    fn index_leads_to_a_configuration_as_the_dockerfile_has_it() {
        let (folder, written) = written("example.com/gatehouse:1", &[Architecture::Amd64]);
        let index = read(folder.path(), "index.json");
        let named = &index["manifests"][0];
        assert_eq!(named["digest"], written.digest);
        assert_eq!(named["platform"]["architecture"], "amd64");
        assert_eq!(named["annotations"]["io.containerd.image.name"], "example.com/gatehouse:1");
        let manifest = blob(folder.path(), named);
        let config = blob(folder.path(), &manifest["config"]);
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", "0".repeat(64)));
        let config = &config["config"];

        let instruction = |name: &str| {
            let line = DOCKERFILE.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the Dockerfile has it").trim()
        };
        assert_eq!(config["User"], instruction("USER "));
        assert_eq!(config["Entrypoint"].to_string(), instruction("ENTRYPOINT "));
        assert_eq!(config["ExposedPorts"], json!({ format!("{}/tcp", instruction("EXPOSE ")): {} }));
        let labels = config["Labels"].as_object().expect("labels");
        assert_eq!(labels.len(), DOCKERFILE.matches("org.opencontainers.image.").count());
        for (name, value) in labels {
            assert!(DOCKERFILE.contains(&format!("{name}={value}")), "{name}");
        }
    }

    #[test]
    fn several_platforms_are_an_index_within_the_index() {
        let (folder, written) = written("gatehouse:1", &[Architecture::Amd64, Architecture::Arm64]);
        let index = read(folder.path(), "index.json");
        let inner = blob(folder.path(), &index["manifests"][0]);
        let platforms: Vec<_> = inner["manifests"].as_array().expect("manifests").iter().collect();
        assert_eq!(platforms.len(), 2);
        assert_eq!(platforms[1]["platform"]["architecture"], "arm64");
        assert_eq!(written.layers.len(), 2);
        let docker = read(folder.path(), "manifest.json");
        assert_eq!(docker.as_array().map(Vec::len), Some(1));
        assert_eq!(docker[0]["RepoTags"], json!(["gatehouse:1"]));
    }

    #[test]
    fn only_an_image_layout_is_replaced() {
        let (folder, _) = written("gatehouse:1", &[Architecture::Amd64]);
        let begin = || Layout::begin(folder.path(), "gatehouse:1", jiff::Timestamp::UNIX_EPOCH).map(drop);
        begin().expect("what an earlier run has written");
        fs::remove_file(folder.path().join(LAYOUT).join(MARKER)).expect("marker");
        assert!(begin().is_err_and(|error| error.to_string().ends_with("is no image layout")));
        assert!(folder.path().join(LAYOUT).exists());
    }

    #[test]
    fn same_content_makes_the_same_archive() {
        let archive = || {
            let (folder, _) = written("gatehouse:1", &[Architecture::Amd64]);
            fs::read(folder.path().join(ARCHIVE)).expect("archive")
        };
        assert_eq!(archive(), archive());
    }

    #[test]
    fn containerd_gets_full_names() {
        assert_eq!(containerd_name("gatehouse:1"), "docker.io/library/gatehouse:1");
        assert_eq!(containerd_name("platform/gatehouse:1"), "docker.io/platform/gatehouse:1");
        assert_eq!(containerd_name("localhost/gatehouse:1"), "localhost/gatehouse:1");
        assert_eq!(containerd_name("127.0.0.1:5000/gatehouse:1"), "127.0.0.1:5000/gatehouse:1");
    }
}
