//! What an architecture's name stands for: functions of timm that set what neither the tensors nor
//! `model_args` show.

use crate::onnx::vit::Activation;

/// A network by the name of timm's function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Architecture<'a> {
    whole: &'a str,
    /// Without the tag of the weights.
    name: &'a str,
}

/// Parts of names that stand for other normalisations, orders of operations or kinds of attention.
const UNKNOWN_VARIANTS: [&str; 9] = [
    "rpn", "xp", "parallel", "18x2", "pwee", "dpwee", "dwee", "dlittle", "vit4",
];

/// Heads by the size in a name.
const HEADS: [(&str, usize); 18] = [
    ("tiny", 3),
    ("xsmall", 4),
    ("wee", 4),
    ("little", 5),
    ("small", 6),
    ("medium", 8),
    ("mediumd", 8),
    ("betwixt", 10),
    ("base", 12),
    ("so150m2", 13),
    ("so150m", 14),
    ("large", 16),
    ("huge", 16),
    ("giant", 16),
    ("giantopt", 16),
    ("gigantic", 16),
    ("so400m", 16),
    ("intern300m", 16),
];

impl<'a> Architecture<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        Self {
            whole,
            name: whole.split('.').next().unwrap_or_default(),
        }
    }

    /// The name, with the tag of the weights.
    pub(super) fn whole(self) -> &'a str {
        self.whole
    }

    /// Refuses what is known to be something else than a plain Vision Transformer.
    pub(super) fn check(self) -> Result<(), String> {
        const FAMILIES: [&str; 5] = ["vit", "deit", "deit3", "flexivit", "test"];
        let whole = self.whole;
        if let Some(variant) = self.words().find(|word| UNKNOWN_VARIANTS.contains(word)) {
            return Err(format!(
                "is \"{whole}\", and \"{variant}\" stands for something else than a plain Vision \
                 Transformer; not imported"
            ));
        }
        if self.has("giant") && (self.has("dinov2") || self.has("tipsv2")) {
            return Err(format!(
                "is \"{whole}\", whose MLPs are gated (SwiGLU), which is not imported"
            ));
        }
        let family = self.words().next().unwrap_or_default();
        match FAMILIES.contains(&family) || self.is_eva_large() {
            true => Ok(()),
            false => Err(format!(
                "is \"{whole}\"; this program imports vit_*, deit_*, deit3_*, flexivit_* and \
                 eva_large_*"
            )),
        }
    }

    /// Attention heads.
    pub(super) fn heads(self) -> Option<usize> {
        let words: Vec<&str> = self.words().collect();
        match &words[..] {
            // The exceptions to the table.
            ["vit", "base", "patch16", "gap", "224", ..] => return Some(16),
            ["vit", "base", _, "plus", ..] => return Some(14),
            ["vit", "giant", _, "dinov2" | "radio", ..]
            | ["vit", "giant", _, "reg4", "dinov2", ..] => return Some(24),
            ["test", "vit" | "vit2"] => return Some(2),
            ["test", "vit3" | "vit4"] => return Some(3),
            _ => {}
        }
        words.iter().find_map(|word| {
            let (_, heads) = HEADS.iter().find(|(size, _)| size == word)?;
            Some(*heads)
        })
    }

    /// Between the layers of the MLPs, unless an argument says otherwise.
    pub(super) fn activation(self) -> Activation {
        if self.has("quickgelu") {
            Activation::QuickGelu
        } else if self.has("siglip") && self.is_of_siglip_2() {
            Activation::GeluTanh
        } else {
            Activation::Gelu
        }
    }

    /// Added to the variance in every normalisation.
    pub(super) fn norm_epsilon(self) -> f32 {
        match self.has("clip") {
            true => 1e-5,
            false => 1e-6,
        }
    }

    /// Whether the classifier reads the mean over the patches, unless something else is said.
    pub(super) fn pools_patches(self) -> bool {
        self.has("gap") || self.is_eva_large()
    }

    /// Whether there is a distillation token with a classifier.
    pub(super) fn is_distilled(self) -> bool {
        self.has("distilled")
    }

    /// The one size of EVA that timm builds as a plain Vision Transformer.
    fn is_eva_large(self) -> bool {
        self.name.starts_with("eva_large_patch14_")
    }

    /// Sizes that came with SigLIP's second version, which has another GELU.
    fn is_of_siglip_2(self) -> bool {
        let size = |words: [&str; 2]| words.iter().all(|word| self.has(word));
        self.has("giantopt")
            || size(["base", "patch32"])
            || size(["large", "512"])
            || size(["so400m", "patch16"])
    }

    fn has(self, word: &str) -> bool {
        self.words().any(|found| found == word)
    }

    fn words(self) -> impl Iterator<Item = &'a str> {
        self.name.split('_')
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What timm's function makes, as `make.py` found it.
    #[derive(serde::Deserialize)]
    struct Golden {
        plain: bool,
        heads: usize,
        activation: String,
        epsilon: f32,
        pool: String,
    }

    /// Every architecture of timm's `vision_transformer.py` and `deit.py`: what is taken for a plain
    /// Vision Transformer is one, with these heads, this activation and this epsilon.
    #[test]
    fn names_stand_for_what_timm_makes_of_them() {
        let golden = include_str!("../../../tests/goldens/timm/architectures.json");
        let golden: BTreeMap<String, Golden> = serde_json::from_str(golden).unwrap();
        assert!(golden.len() > 150);
        for (name, golden) in golden {
            let found = Architecture::new(&name);
            if !golden.plain {
                assert!(found.check().is_err(), "{name}");
                continue;
            }
            assert_eq!(found.check(), Ok(()), "{name}");
            assert_eq!(found.heads(), Some(golden.heads), "{name}");
            assert_eq!(
                format!("{:?}", found.activation()),
                golden.activation,
                "{name}"
            );
            assert_eq!(found.norm_epsilon(), golden.epsilon, "{name}");
            if !name.starts_with("test_") {
                assert_eq!(found.pools_patches(), golden.pool == "avg", "{name}");
            }
        }
    }
}
