//! Which outputs a batch needs, and what each image gets of them.

use ort::session::SessionOutputs;
use patchlight_model::manifest::{AttributionOutputs, Graph};

use super::{Attribution, EngineError, Input, Output};

/// What the graph calls its tensors.
#[derive(Clone, Debug)]
pub(super) struct TensorNames {
    pub(super) input: String,
    pub(super) logits: String,
    pub(super) rollout: Option<String>,
    pub(super) attribution: Option<AttributionOutputs>,
    pub(super) class_attention: Option<String>,
}

impl TensorNames {
    pub(super) fn of(graph: &Graph) -> Self {
        Self {
            input: graph.input.clone(),
            logits: graph.logits.clone(),
            rollout: graph.rollout_by_start.clone(),
            attribution: graph.attribution.clone(),
            class_attention: graph.class_attention.clone(),
        }
    }

    /// Outputs that somebody reads. Others are not copied from the device. Whatever the batch, they
    /// come in the same order, and whoever wants one wants those before it.
    pub(super) fn wanted(&self, inputs: &[Input<'_>]) -> Vec<&str> {
        let mut wanted = vec![self.logits.as_str()];
        if inputs.iter().any(|input| input.maps) {
            wanted.extend(self.rollout.as_deref());
            let attribution = self.attribution.iter();
            wanted.extend(attribution.flat_map(|names| {
                [&names.patches, &names.rest, &names.classes].map(String::as_str)
            }));
        }
        if inputs.iter().any(wants_class_attention) {
            wanted.extend(self.class_attention.as_deref());
        }
        wanted
    }
}

fn wants_class_attention(input: &Input<'_>) -> bool {
    input.maps && input.class_attention
}

/// Values of outputs by name, of all images of a batch.
pub(super) trait OutputValues {
    fn floats(&self, name: &str) -> Result<&[f32], EngineError>;
    fn integers(&self, name: &str) -> Result<&[i64], EngineError>;
}

impl OutputValues for SessionOutputs<'_> {
    fn floats(&self, name: &str) -> Result<&[f32], EngineError> {
        Ok(self[name].try_extract_tensor::<f32>()?.1)
    }

    fn integers(&self, name: &str) -> Result<&[i64], EngineError> {
        Ok(self[name].try_extract_tensor::<i64>()?.1)
    }
}

/// A batch's outputs, taken apart by image.
pub(super) struct BatchOutputs<'a, V> {
    pub(super) outputs: &'a V,
    pub(super) count: usize,
}

impl<V: OutputValues> BatchOutputs<'_, V> {
    /// What each image gets, whose row in the batch is in `rows`.
    pub(super) fn of_inputs(
        &self,
        names: &TensorNames,
        inputs: &[Input<'_>],
        rows: &[usize],
    ) -> Result<Vec<Output>, EngineError> {
        let inputs = inputs.iter().zip(rows);
        inputs
            .map(|(input, row)| self.output(names, input, *row))
            .collect()
    }

    /// What the image in row `at` gets.
    fn output(
        &self,
        names: &TensorNames,
        input: &Input<'_>,
        at: usize,
    ) -> Result<Output, EngineError> {
        let logits = self.floats(&names.logits, at)?;
        let attribution = names.attribution.as_ref().filter(|_| input.maps);
        let attention = names.class_attention.as_ref();
        let attention = attention.filter(|_| wants_class_attention(input));
        Ok(Output {
            rollout: match &names.rollout {
                Some(name) if input.maps => self.floats(name, at)?,
                _ => Vec::new(),
            },
            attribution: attribution
                .map(|names| self.attribution(names, at, logits.len()))
                .transpose()?,
            class_attention: attention.map(|name| self.floats(name, at)).transpose()?,
            logits,
        })
    }

    fn floats(&self, name: &str, at: usize) -> Result<Vec<f32>, EngineError> {
        Ok(self.of_image(self.outputs.floats(name)?, at))
    }

    fn of_image<T: Copy>(&self, values: &[T], at: usize) -> Vec<T> {
        let each = values.len() / self.count;
        values[at * each..][..each].to_vec()
    }

    fn attribution(
        &self,
        names: &AttributionOutputs,
        at: usize,
        classes: usize,
    ) -> Result<Attribution, EngineError> {
        let found = self.outputs.integers(&names.classes)?;
        let found = self.of_image(found, at).into_iter();
        let found = found.map(|class| usize::try_from(class).ok().filter(|&c| c < classes));
        Ok(Attribution {
            classes: found.collect::<Option<_>>().ok_or_else(|| {
                EngineError::Graph(format!("`{}` names a class that is none", names.classes))
            })?,
            patches: self.floats(&names.patches, at)?,
            rest: self.floats(&names.rest, at)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> TensorNames {
        TensorNames {
            input: "pixel_values".to_owned(),
            logits: "logits".to_owned(),
            rollout: Some("rollout_by_start".to_owned()),
            attribution: Some(AttributionOutputs {
                labels: 5,
                patches: "evidence".to_owned(),
                rest: "evidence_rest".to_owned(),
                classes: "evidence_class".to_owned(),
            }),
            class_attention: Some("class_attention".to_owned()),
        }
    }

    #[test]
    fn only_outputs_that_an_image_wants_are_named() {
        let names = names();
        let input = |maps, class_attention| Input {
            class_attention,
            maps,
            ..Input::in_full(&[0.0][..])
        };
        let maps = [
            "logits",
            "rollout_by_start",
            "evidence",
            "evidence_rest",
            "evidence_class",
        ];
        // Without maps there is no class attention either.
        let plain = [input(false, false), input(false, true)];
        assert_eq!(names.wanted(&plain), ["logits"]);
        let one_with_maps = [input(false, true), input(true, false)];
        assert_eq!(names.wanted(&one_with_maps), maps);
        let one_in_full = [input(true, false), input(true, true)];
        let all = names.wanted(&one_in_full);
        assert_eq!(all[..5], maps);
        assert_eq!(all[5..], ["class_attention"]);
    }

    #[test]
    fn outputs_that_the_graph_lacks_are_not_named() {
        let names = TensorNames {
            rollout: None,
            attribution: None,
            class_attention: None,
            ..names()
        };
        assert_eq!(names.wanted(&[Input::in_full(&[0.0][..])]), ["logits"]);
    }
}
