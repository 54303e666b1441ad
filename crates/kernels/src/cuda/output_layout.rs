//! Where the outputs of a batch lie, all of them in one piece of memory.

/// Each output begins at a multiple of so many bytes, which is what the card reads best.
const ALIGNMENT: usize = 256;

/// What an output's values are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutputElement {
    /// float32.
    Float,
    /// int64.
    Integer,
}

/// An output of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutputSpec {
    /// Its name in the graph.
    pub name: String,
    /// What its values are.
    pub element: OutputElement,
    /// Lengths of its axes behind the batch's.
    pub dims: Vec<usize>,
}

impl OutputSpec {
    /// Values of one image.
    pub(super) fn values(&self) -> usize {
        self.dims.iter().product()
    }

    fn bytes(&self, batch: usize) -> usize {
        let each = match self.element {
            OutputElement::Float => size_of::<f32>(),
            OutputElement::Integer => size_of::<i64>(),
        };
        batch * self.values() * each
    }
}

/// Offsets in bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OutputLayout {
    /// Where each output begins.
    pub(super) offsets: Vec<usize>,
    /// Where the last one ends.
    pub(super) bytes: usize,
}

impl OutputLayout {
    /// Of the `outputs` of `batch` images, one behind the other.
    pub(super) fn of(outputs: &[OutputSpec], batch: usize) -> Self {
        let mut bytes = 0;
        let offsets = outputs.iter().map(|output| {
            let offset = usize::next_multiple_of(bytes, ALIGNMENT);
            bytes = offset + output.bytes(batch);
            offset
        });
        let offsets = offsets.collect();
        Self { offsets, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(element: OutputElement, dims: &[usize]) -> OutputSpec {
        OutputSpec {
            name: String::new(),
            element,
            dims: dims.to_vec(),
        }
    }

    #[test]
    fn outputs_lie_behind_each_other_without_overlapping() {
        let outputs = [
            output(OutputElement::Float, &[10]),
            output(OutputElement::Float, &[2, 50]),
            output(OutputElement::Integer, &[5]),
        ];
        let layout = OutputLayout::of(&outputs, 3);
        // 120 bytes, 1200 bytes from 256 on, 120 bytes from 1536 on.
        assert_eq!(layout.offsets, [0, 256, 1536]);
        assert_eq!(layout.bytes, 1656);
    }

    #[test]
    fn the_first_outputs_lie_where_they_do_without_the_others() {
        let outputs = [
            output(OutputElement::Float, &[7]),
            output(OutputElement::Float, &[9]),
        ];
        let [all, first] = [&outputs[..], &outputs[..1]].map(|some| OutputLayout::of(some, 64));
        assert_eq!(all.offsets[..1], first.offsets);
        assert!(first.bytes <= all.offsets[1]);
    }

    #[test]
    fn nothing_takes_no_room() {
        assert_eq!(OutputLayout::of(&[], 8).bytes, 0);
        let one = [output(OutputElement::Float, &[4])];
        assert_eq!(OutputLayout::of(&one, 0).bytes, 0);
    }
}
