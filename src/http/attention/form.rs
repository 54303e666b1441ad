//! The form in which a map is asked for: query and `Accept`.

use axum::http::HeaderMap;

use crate::{
    Error, Result,
    explain::{Colormap, Style},
    http::{negotiate, query::Query},
    model::Outline,
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

/// Which map is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// The rollout that starts at a block.
    Rollout { start_layer: usize },
    /// One label's evidence, with the mean over all classes taken away or not.
    Class { class: usize, contrast: bool },
    /// The class token's attention of one head.
    Head { layer: usize, head: usize },
    /// That of all heads of a layer.
    Layer { layer: usize },
}

/// Everything that shapes the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) asked: Asked,
    pub(super) style: Style,
}

impl Form {
    /// Reads query and `Accept`; the query's `format` has the last word.
    pub(super) fn read(query: Option<&str>, headers: &HeaderMap, model: &Outline) -> Result<Self> {
        let mut query = Query::parse(query)?;
        let format = match query.text("format")? {
            Some(name) => format_named(&name)?,
            None => format_accepted(headers)?,
        };
        let asked = Asked::read(&mut query, model)?;
        let (view, alpha) = (query.choice("view")?, query.choice("alpha")?);
        if matches!(asked, Asked::Layer { .. }) && (view.is_some() || alpha.is_some()) {
            return Err(Error::MalformedRequest(
                "the sheet of a layer's heads has no view and no alpha; give `head` for one map \
                 over the picture"
                    .to_owned(),
            ));
        }
        let style = Style {
            view: view.unwrap_or_default(),
            colormap: query.choice("colormap")?,
            alpha: alpha.unwrap_or_default(),
            smooth: query.choice("smooth")?.unwrap_or_default(),
        };
        if matches!(asked, Asked::Class { .. })
            && style.colormap.is_some_and(|map| map != Colormap::Coolwarm)
        {
            return Err(Error::InvalidParameter {
                name: "colormap",
                detail: "evidence is signed and needs a colormap that diverges from zero: coolwarm"
                    .to_owned(),
            });
        }
        query.finish(
            "format, view, colormap, alpha, smooth, start_layer, class, contrast, layer, head",
        )?;
        Ok(Self {
            format,
            asked,
            style,
        })
    }
}

impl Asked {
    fn read(query: &mut Query, model: &Outline) -> Result<Self> {
        let start_layer = index(query, "start_layer", "layers", model.layers)?;
        let class = index(query, "class", "classes", model.classes)?;
        let contrast = query.value("contrast")?;
        let layer = index(query, "layer", "layers", model.layers)?;
        let head = index(query, "head", "heads", model.heads)?;
        match (start_layer, class, contrast, layer, head) {
            (start, None, None, None, None) => Ok(Self::Rollout {
                start_layer: start.unwrap_or(0),
            }),
            (None, Some(class), contrast, None, None) => Ok(Self::Class {
                class,
                contrast: contrast.unwrap_or(false),
            }),
            (None, None, None, Some(layer), Some(head)) => Ok(Self::Head { layer, head }),
            (None, None, None, Some(layer), None) => Ok(Self::Layer { layer }),
            _ => Err(Error::MalformedRequest(
                "ask for one map: `start_layer` (rollout), `class` with or without `contrast` \
                 (evidence), or `layer` with or without `head` (attention)"
                    .to_owned(),
            )),
        }
    }
}

/// A number below `count`.
fn index(query: &mut Query, name: &'static str, of: &str, count: usize) -> Result<Option<usize>> {
    let value = query.value(name)?;
    if value.is_some_and(|value| value >= count) {
        let detail = format!("the model's {of} are 0 to {}", count - 1);
        return Err(Error::InvalidParameter { name, detail });
    }
    Ok(value)
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
