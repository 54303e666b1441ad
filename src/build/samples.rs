//! Which sample images the program carries for its page: those that `models/samples/samples.json`
//! lists, as far as they are small.

use std::{env, error::Error, fmt::Write, fs, path::Path};

const FOLDER: &str = "models/samples";

/// The program is to stay small.
const MAX_BYTES: u64 = 64 << 10;

/// As many as fit beside each other.
const MAX_COUNT: usize = 6;

/// Writes `samples.rs`, an array of route, media type and bytes for each sample and, last, for a
/// listing of their files and labels.
pub(super) fn carry() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    println!("cargo:rerun-if-changed=src/build/samples.rs");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(FOLDER);
    let out = env::var("OUT_DIR")?;
    let listing = fs::read_to_string(folder.join("samples.json"))?;
    let listing: Vec<serde_json::Value> = serde_json::from_str(&listing)?;

    let mut code = String::from("[\n");
    let mut carried = Vec::new();
    for entry in listing {
        let text = |name: &str| {
            let text = entry.get(name).and_then(serde_json::Value::as_str);
            text.ok_or_else(|| format!("{FOLDER}/samples.json: a sample lacks `{name}`"))
        };
        let (file, label) = (text("file")?, text("label")?);
        let path = folder.join(file);
        let Some(kind) = media_type(&path) else {
            return Err(format!("{FOLDER}/{file} is not a JPEG, PNG or WebP").into());
        };
        if carried.len() == MAX_COUNT || fs::metadata(&path)?.len() > MAX_BYTES {
            continue;
        }
        writeln!(
            code,
            "    ({:?}, {kind:?}, include_bytes!({:?})),",
            format!("/samples/{file}"),
            path.display().to_string()
        )?;
        carried.push(serde_json::json!({"file": file, "label": label}));
    }
    let listing = Path::new(&out).join("samples.json");
    fs::write(&listing, serde_json::to_vec(&carried)?)?;
    writeln!(
        code,
        "    (\"/samples/samples.json\", \"application/json\", include_bytes!({:?})),\n]",
        listing.display().to_string()
    )?;
    fs::write(Path::new(&out).join("samples.rs"), code)?;
    Ok(())
}

fn media_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "jpg" | "jpeg" => Some("image/jpeg"),
        "png" => Some("image/png"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}
