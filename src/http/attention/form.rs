//! The form in which a map is asked for, and the JSON form itself.

use axum::http::HeaderMap;
use serde::Serialize;

use crate::{
    Error, Result,
    explain::{PatchMap, Style},
    http::{negotiate, query::Query},
    model::manifest::HeadFusion,
    preprocess::Region,
    store::{KeptMap, MapId},
};

/// Media types in our order of preference.
const OFFERS: [(&str, Format); 3] = [
    ("image/png", Format::Png),
    ("application/json", Format::Json),
    ("application/x-npy", Format::Npy),
];

/// How a map is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Png,
    Json,
    Npy,
}

/// Everything that shapes the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) start_layer: usize,
    pub(super) style: Style,
}

impl Form {
    /// Reads query and `Accept`; the query's `format` has the last word.
    pub(super) fn read(query: Option<&str>, headers: &HeaderMap, map: &KeptMap) -> Result<Self> {
        let mut query = Query::parse(query)?;
        let format = match query.text("format")? {
            Some(name) => format_named(&name)?,
            None => format_accepted(headers)?,
        };
        let layers = map.model.manifest.architecture.layers;
        let start_layer = query.value("start_layer")?.unwrap_or(0);
        if start_layer >= layers {
            let detail = format!("the model's layers are 0 to {}", layers - 1);
            return Err(Error::InvalidParameter {
                name: "start_layer",
                detail,
            });
        }
        for (name, what) in [
            (
                "class",
                "per-label evidence is not computed by this version",
            ),
            (
                "layer",
                "single layers and heads are not kept by this version",
            ),
            (
                "head",
                "single layers and heads are not kept by this version",
            ),
        ] {
            if query.text(name)?.is_some() {
                return Err(Error::MapNotKept(format!(
                    "`{name}`: {what}; the map is its rollout"
                )));
            }
        }
        let style = Style {
            view: query.choice("view")?.unwrap_or_default(),
            colormap: query.choice("colormap")?,
            alpha: query.choice("alpha")?.unwrap_or_default(),
            smooth: query.choice("smooth")?.unwrap_or_default(),
        };
        query.finish("format, view, colormap, alpha, smooth, start_layer")?;
        Ok(Self {
            format,
            start_layer,
            style,
        })
    }
}

fn format_named(name: &str) -> Result<Format> {
    match name {
        "png" => Ok(Format::Png),
        "json" => Ok(Format::Json),
        "npy" => Ok(Format::Npy),
        _ => Err(Error::InvalidParameter {
            name: "format",
            detail: "it must be one of png, json, npy".to_owned(),
        }),
    }
}

fn format_accepted(headers: &HeaderMap) -> Result<Format> {
    let types = OFFERS.map(|(name, _)| name);
    let chosen = negotiate::choose(headers, &types);
    OFFERS
        .iter()
        .find(|(name, _)| Some(*name) == chosen)
        .map(|(_, format)| *format)
        .ok_or(Error::NotAcceptable {
            available: "image/png, application/json, application/x-npy",
        })
}

/// The map in numbers. `values` and `prefix_mass` add up to 1.
#[derive(Serialize)]
struct Description<'a> {
    id: String,
    model: &'a str,
    method: &'static str,
    about: &'static str,
    head_fusion: HeadFusion,
    start_layer: usize,
    grid: [usize; 2],
    values: &'a [f32],
    prefix_mass: f32,
    region: Region,
    image: Size,
}

#[derive(Serialize)]
struct Size {
    width: u32,
    height: u32,
}

/// The map as JSON.
pub(super) fn describe(
    id: MapId,
    kept: &KeptMap,
    map: &PatchMap,
    start_layer: usize,
) -> Result<Vec<u8>> {
    let manifest = &kept.model.manifest;
    let prefix = &kept.row(start_layer).ok_or(Error::Internal)?[..manifest.tokens.prefix];
    let description = Description {
        id: id.to_string(),
        model: &kept.model.name,
        method: "rollout",
        about: "rollout is class-agnostic: one map a picture, whatever the label",
        head_fusion: manifest.rollout.head_fusion,
        start_layer,
        grid: manifest.tokens.grid,
        values: map.values(),
        prefix_mass: prefix.iter().sum(),
        region: kept.region,
        image: Size {
            width: kept.placement.picture().0,
            height: kept.placement.picture().1,
        },
    };
    serde_json::to_vec(&description).map_err(|_| Error::Internal)
}
