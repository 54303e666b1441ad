//! The form in which a map is asked for: query and `Accept`.

use std::str::FromStr;

use axum::http::HeaderMap;
use utoipa::{IntoParams, ToSchema};

use crate::{
    Error, Result,
    explain::{Alpha, Colormap, Smooth, Style, View},
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
#[derive(Clone, Copy, Debug, Eq, PartialEq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Format {
    Png,
    Json,
    Npy,
}

/// The query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Instead of `Accept`.
    #[param(inline)]
    format: Option<Format>,
    /// What the picture shows.
    #[param(inline)]
    view: Option<View>,
    /// turbo unless named; coolwarm, and no other, for evidence.
    #[param(inline)]
    colormap: Option<Colormap>,
    /// How much of an overlay is the map: from the picture alone to the colours alone.
    #[param(value_type = Option<f32>, minimum = 0, maximum = 1, default = 0.5)]
    alpha: Option<Alpha>,
    /// One colour a patch, or smooth between patch centres.
    #[param(inline)]
    smooth: Option<Smooth>,
    /// Start the product of the rollout at this block.
    start_layer: Option<usize>,
    /// This label's evidence instead of the rollout, for the picture's five best labels.
    class: Option<usize>,
    /// Evidence without the mean over all classes.
    contrast: Option<bool>,
    /// The class token's attention in this layer instead, kept with `attention=heads`.
    layer: Option<usize>,
    /// In this head of it; a sheet of all heads, without.
    head: Option<usize>,
}

impl Parameters {
    fn read(query: Option<&str>) -> Result<Self> {
        let mut query = Query::parse(query)?;
        let parameters = Self {
            format: query.choice("format")?,
            view: query.choice("view")?,
            colormap: query.choice("colormap")?,
            alpha: query.choice("alpha")?,
            smooth: query.choice("smooth")?,
            start_layer: query.value("start_layer")?,
            class: query.value("class")?,
            contrast: query.value("contrast")?,
            layer: query.value("layer")?,
            head: query.value("head")?,
        };
        query.finish(
            "format, view, colormap, alpha, smooth, start_layer, class, contrast, layer, head",
        )?;
        Ok(parameters)
    }
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
        let parameters = Parameters::read(query)?;
        let format = match parameters.format {
            Some(format) => format,
            None => format_accepted(headers)?,
        };
        let asked = Asked::of(&parameters, model)?;
        let Parameters { view, alpha, .. } = parameters;
        if matches!(asked, Asked::Layer { .. }) && (view.is_some() || alpha.is_some()) {
            return Err(Error::MalformedRequest(
                "the sheet of a layer's heads has no view and no alpha; give `head` for one map \
                 over the picture"
                    .into(),
            ));
        }
        let style = Style {
            view: view.unwrap_or_default(),
            colormap: parameters.colormap,
            alpha: alpha.unwrap_or_default(),
            smooth: parameters.smooth.unwrap_or_default(),
        };
        if matches!(asked, Asked::Class { .. })
            && style.colormap.is_some_and(|map| map != Colormap::Coolwarm)
        {
            return Err(Error::InvalidParameter {
                name: "colormap",
                detail: "evidence is signed and needs a colormap that diverges from zero: coolwarm"
                    .into(),
            });
        }
        Ok(Self {
            format,
            asked,
            style,
        })
    }
}

impl Asked {
    fn of(parameters: &Parameters, model: &Outline) -> Result<Self> {
        let start_layer = below(
            "start_layer",
            parameters.start_layer,
            "layers",
            model.layers,
        )?;
        let class = below("class", parameters.class, "classes", model.classes)?;
        let layer = below("layer", parameters.layer, "layers", model.layers)?;
        let head = below("head", parameters.head, "heads", model.heads)?;
        let contrast = parameters.contrast;
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
                    .into(),
            )),
        }
    }
}

/// A number below `count`.
fn below(
    name: &'static str,
    value: Option<usize>,
    of: &str,
    count: usize,
) -> Result<Option<usize>> {
    if value.is_some_and(|value| value >= count) {
        let detail = format_args!("the model's {of} are 0 to {}", count - 1).into();
        return Err(Error::InvalidParameter { name, detail });
    }
    Ok(value)
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "png" => Ok(Self::Png),
            "json" => Ok(Self::Json),
            "npy" => Ok(Self::Npy),
            _ => Err(Error::InvalidParameter {
                name: "format",
                detail: "it must be one of png, json, npy".into(),
            }),
        }
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
