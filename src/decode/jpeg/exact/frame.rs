//! The frame header, and what follows from it: how large components are, what is in them so far.

use super::{
    entropy::Scan,
    header::{Headers, damaged},
};

/// Quantizers in the order of the block.
pub(super) type Quantizers = [u16; 64];

/// The frame header, and what follows from it.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest sampling factors.
    pub(super) max_h: usize,
    pub(super) max_v: usize,
    /// MCUs of interleaved scans.
    pub(super) mcu_columns: usize,
    pub(super) mcu_rows: usize,
}

/// One component of the frame.
#[derive(Clone)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors.
    pub(super) h: usize,
    pub(super) v: usize,
    quantizer: usize,
    /// Samples that count.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks that hold them.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    mcu_columns: usize,
    /// As they were when the component's first scan began.
    taken: Option<Quantizers>,
    /// How many low bits of each coefficient are still to come; `None` before its first scan.
    missing_bits: [Option<u8>; 64],
}

impl Frame {
    pub(super) fn read(progressive: bool, body: &[u8]) -> Result<Self, String> {
        let damaged = || damaged("frame header");
        let (&[precision, h0, h1, w0, w1, count], rest) =
            body.split_first_chunk::<6>().ok_or_else(damaged)?;
        let (parts, surplus) = rest.as_chunks::<3>();
        let width = usize::from(u16::from_be_bytes([w0, w1]));
        let height = usize::from(u16::from_be_bytes([h0, h1]));
        let fits = parts.len() == usize::from(count) && surplus.is_empty();
        if !fits || precision != 8 || width == 0 || height == 0 {
            return Err(damaged());
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(format!("it has {count} color components"));
        }
        let mut factors: Vec<(usize, usize)> = Vec::with_capacity(parts.len());
        for &[_, both, _] in parts {
            let (h, v) = (usize::from(both >> 4), usize::from(both & 0xf));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(damaged());
            }
            // A single component's factors mean nothing: nothing is interleaved with it.
            factors.push(if count == 1 { (1, 1) } else { (h, v) });
        }
        let max_h = factors.iter().map(|&(h, _)| h).max().unwrap_or(1);
        let max_v = factors.iter().map(|&(_, v)| v).max().unwrap_or(1);
        let mcu_columns = width.div_ceil(8 * max_h);
        let components = parts
            .iter()
            .zip(factors)
            .map(|(&[id, _, quantizer], (h, v))| Component {
                id,
                h,
                v,
                quantizer: usize::from(quantizer),
                width: (width * h).div_ceil(max_h),
                height: (height * v).div_ceil(max_v),
                blocks_wide: (width * h).div_ceil(8 * max_h),
                blocks_high: (height * v).div_ceil(8 * max_v),
                mcu_columns,
                taken: None,
                missing_bits: [None; 64],
            })
            .collect();
        Ok(Self {
            width,
            height,
            progressive,
            components,
            max_h,
            max_v,
            mcu_columns,
            mcu_rows: height.div_ceil(8 * max_v),
        })
    }

    /// Takes the quantizers of components whose first scan this is: they may change afterwards.
    pub(super) fn take_tables(&mut self, scan: &Scan, headers: &Headers) -> Result<(), String> {
        for part in &scan.components {
            let component = &mut self.components[part.index];
            if component.taken.is_none() {
                let table = headers.quantizers.get(component.quantizer);
                let table = table.copied().flatten();
                component.taken =
                    Some(table.ok_or("it uses a quantization table that it does not define")?);
            }
        }
        Ok(())
    }

    /// Checks the band and the bits that a progressive scan adds (T.81, G.1.1.1), and remembers them.
    pub(super) fn progress(&mut self, scan: &Scan) -> Result<(), String> {
        if !self.progressive {
            return Ok(());
        }
        let &Scan {
            first,
            last,
            high,
            low,
            ..
        } = scan;
        let band = if first == 0 {
            last == 0
        } else {
            first <= last && last < 64 && scan.components.len() == 1
        };
        if !band || high != 0 && low + 1 != high || low > 13 {
            return Err("its scans are not in a progression".to_owned());
        }
        for part in &scan.components {
            self.components[part.index].missing_bits[first..=last].fill(Some(low));
        }
        Ok(())
    }

    /// That what libjpeg would smooth for want of scans is there: the first ten coefficients.
    pub(super) fn check_complete(&self) -> Result<(), String> {
        let complete =
            |part: &Component| part.missing_bits[..10].iter().all(|&bits| bits == Some(0));
        if self.progressive && !self.components.iter().all(complete) {
            return Err("its last scans are missing".to_owned());
        }
        Ok(())
    }
}

impl Component {
    /// Blocks in a row of whole MCUs.
    pub(super) fn padded_blocks(&self) -> usize {
        self.mcu_columns * self.h
    }

    /// Zeros for a component that no scan has.
    pub(super) fn quantizers(&self) -> &Quantizers {
        self.taken.as_ref().unwrap_or(&[0; 64])
    }
}
