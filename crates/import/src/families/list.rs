//! The table of what is imported from where, and with which maps.

use std::fmt;

use super::{CLASS_TOKEN, Description, timm, transformers};

/// One line of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FamilyRow {
    /// What people call the family.
    pub name: &'static str,
    /// The library whose checkpoints these are.
    pub library: &'static str,
    /// The class, function or file that holds one.
    pub checkpoints: &'static str,
    /// What the classifier reads, and so where a rollout starts.
    pub reads: &'static str,
    /// What the evidence for a label is made of.
    pub evidence: &'static str,
}

const PLAIN: [FamilyRow; 5] = [
    row(
        "transformers",
        Description {
            name: "ViT, ViT-MAE fine-tuned",
            checkpoints: "ViTForImageClassification",
            reads: CLASS_TOKEN[0],
            evidence: CLASS_TOKEN[1],
        },
    ),
    row(
        "transformers",
        Description {
            name: "DeiT",
            checkpoints: "DeiTForImageClassification, …WithTeacher",
            reads: "class token, or class and distillation token",
            evidence: "attention of the class token; none with a teacher's head",
        },
    ),
    row(
        "timm",
        Description {
            name: "ViT, DeiT, DeiT III, FlexiViT, CLIP and DINOv2 towers",
            checkpoints: "vit_*, deit_*, deit3_*, flexivit_*, eva_large_*",
            reads: "class token, both of DeiT's tokens, or mean over the patches",
            evidence: "as for what is read; none for both of DeiT's tokens",
        },
    ),
    row(
        "torchvision",
        Description {
            name: "ViT",
            checkpoints: "vit_b_16, vit_b_32, vit_l_16, vit_l_32, vit_h_14",
            reads: CLASS_TOKEN[0],
            evidence: CLASS_TOKEN[1],
        },
    ),
    row(
        "JAX",
        Description {
            name: "ViT",
            checkpoints: ".npz of vision_transformer and big_vision",
            reads: "class token or mean over the patches",
            evidence: "as for what is read",
        },
    ),
];

const fn row(library: &'static str, family: Description) -> FamilyRow {
    FamilyRow {
        name: family.name,
        library,
        checkpoints: family.checkpoints,
        reads: family.reads,
        evidence: family.evidence,
    }
}

const EXPORTED: [FamilyRow; 2] = [
    row(
        ".onnx",
        Description {
            name: "Vision Transformers with plain attention",
            checkpoints: "torch.onnx.export, optimum, timm; opset 11 to 23",
            reads: "found by running the graph",
            evidence: "where a mean over the patches is read",
        },
    ),
    row(
        ".onnx",
        Description {
            name: "Swin, ConvNeXt, ResNet, EfficientNet and other networks that end in a mean",
            checkpoints: "the same",
            reads: "no rollout",
            evidence: "cells of the last feature map, exact",
        },
    ),
];

/// The table in Markdown, as `import --list-families` prints it and docs/importing.md has it.
pub fn table() -> String {
    let head = "| family | library | checkpoints | the classifier reads, and a rollout starts at | \
                evidence is made of |\n|---|---|---|---|---|\n";
    let rows = all().into_iter().map(|row| format!("{row}\n"));
    head.to_owned() + &rows.collect::<String>()
}

/// All families, in the order of their libraries.
pub fn all() -> Vec<FamilyRow> {
    let [vit, deit, timm_plain, torchvision, jax] = PLAIN;
    let mut rows = vec![vit, deit];
    let of_transformers = transformers::FAMILIES.iter();
    rows.extend(of_transformers.map(|family| row("transformers", family.description)));
    rows.push(timm_plain);
    let of_timm = timm::FAMILIES.iter();
    rows.extend(of_timm.map(|family| row("timm", family.description)));
    rows.extend([torchvision, jax]);
    rows.extend(EXPORTED);
    rows
}

impl fmt::Display for FamilyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {} | {} |",
            self.name, self.library, self.checkpoints, self.reads, self.evidence
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    /// `WRITE_DOCS=1 cargo test -p patchlight-import families` writes it again.
    #[test]
    fn importing_md_has_this_table() {
        const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/importing.md");
        let page = fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once("<!-- families -->\n").unwrap();
        let (found, after) = rest.split_once("<!-- /families -->").unwrap();
        if env::var_os("WRITE_DOCS").is_some() {
            let written = format!(
                "{before}<!-- families -->\n{}<!-- /families -->{after}",
                table()
            );
            fs::write(PAGE, written).unwrap();
            return;
        }
        assert_eq!(found, table());
    }
}
