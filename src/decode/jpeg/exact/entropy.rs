//! From bits to coefficients: sequential (T.81, F.2) and progressive (G.2) Huffman scans.

use super::{
    bits::Bits,
    frame::Frame,
    header::{Headers, ZIGZAG},
    huffman::Table,
};

/// An 8×8 block of coefficients, row by row.
pub(super) type Block = [i16; 64];

/// A scan header.
pub(super) struct Scan {
    pub(super) components: Vec<ScanComponent>,
    /// The band of coefficients in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bits that earlier scans left out; 0 for the first of a band.
    pub(super) high: u8,
    /// Bits that this one leaves out.
    pub(super) low: u8,
}

/// A component's part in a scan.
#[derive(Clone, Copy)]
pub(super) struct ScanComponent {
    /// In the frame.
    pub(super) index: usize,
    /// Numbers of Huffman tables.
    pub(super) dc: usize,
    pub(super) ac: usize,
}

/// Blocks of all components, padded to whole MCUs.
pub(super) struct Coefficients {
    components: Vec<(usize, Vec<Block>)>,
}

impl Coefficients {
    /// For one row of MCUs.
    pub(super) fn one_row(frame: &Frame) -> Self {
        Self::new(frame, 1)
    }

    /// For the whole picture.
    pub(super) fn whole(frame: &Frame) -> Self {
        Self::new(frame, frame.mcu_rows)
    }

    fn new(frame: &Frame, mcu_rows: usize) -> Self {
        let blocks = frame.components.iter().map(|component| {
            let wide = component.padded_blocks();
            (wide, vec![[0; 64]; wide * component.v * mcu_rows])
        });
        Self {
            components: blocks.collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        for (_, blocks) in &mut self.components {
            blocks.fill([0; 64]);
        }
    }

    /// A row of blocks of one component.
    pub(super) fn row(&self, component: usize, row: usize) -> &[Block] {
        let (wide, blocks) = &self.components[component];
        &blocks[row * wide..][..*wide]
    }

    fn block(&mut self, component: usize, column: usize, row: usize) -> &mut Block {
        let (wide, blocks) = &mut self.components[component];
        &mut blocks[row * *wide + column]
    }
}

/// What a scan's blocks hold.
#[derive(Clone, Copy)]
enum Coding {
    Sequential,
    DcFirst,
    DcRefined,
    AcFirst,
    AcRefined,
}

/// Reads a scan, row by row.
pub(super) struct ScanDecoder<'a> {
    bits: Bits<'a>,
    coding: Coding,
    parts: Vec<Part>,
    band: (usize, usize),
    low: u8,
    restart_interval: u32,
    until_restart: u32,
    next_restart: u8,
    /// Blocks that follow without coefficients (progressive).
    end_of_band: u32,
}

/// One component of the scan.
struct Part {
    index: usize,
    dc: Option<Table>,
    ac: Option<Table>,
    last_dc: i32,
}

/// Blocks in an interleaved MCU, at most (T.81, B.2.3).
const MAX_MCU_BLOCKS: usize = 10;

impl<'a> ScanDecoder<'a> {
    pub(super) fn new(
        frame: &Frame,
        scan: &Scan,
        headers: &Headers,
        bits: Bits<'a>,
    ) -> Result<Self, String> {
        let coding = match (frame.progressive, scan.first, scan.high) {
            (false, ..) => Coding::Sequential,
            (true, 0, 0) => Coding::DcFirst,
            (true, 0, _) => Coding::DcRefined,
            (true, _, 0) => Coding::AcFirst,
            (true, ..) => Coding::AcRefined,
        };
        let blocks = |part: &ScanComponent| {
            let component = &frame.components[part.index];
            component.h * component.v
        };
        let blocks: usize = scan.components.iter().map(blocks).sum();
        if scan.components.len() > 1 && blocks > MAX_MCU_BLOCKS {
            return Err(format!("an MCU of {blocks} blocks is not allowed"));
        }
        let parts = scan.components.iter().map(|part| {
            let dc = matches!(coding, Coding::Sequential | Coding::DcFirst);
            let ac = !matches!(coding, Coding::DcFirst | Coding::DcRefined);
            let dc = dc.then(|| Table::new(headers.dc(part.dc)?, true));
            let ac = ac.then(|| Table::new(headers.ac(part.ac)?, false));
            Ok(Part {
                index: part.index,
                dc: dc.transpose()?,
                ac: ac.transpose()?,
                last_dc: 0,
            })
        });
        Ok(Self {
            bits,
            coding,
            parts: parts.collect::<Result<_, String>>()?,
            band: (scan.first, scan.last),
            low: scan.low,
            restart_interval: headers.restart_interval,
            until_restart: headers.restart_interval,
            next_restart: 0,
            end_of_band: 0,
        })
    }

    pub(super) fn into_bits(self) -> Bits<'a> {
        self.bits
    }

    /// Rows of MCUs: of one block each where there is but one component.
    pub(super) fn rows(&self, frame: &Frame) -> usize {
        match &self.parts[..] {
            [part] => frame.components[part.index].blocks_high,
            _ => frame.mcu_rows,
        }
    }

    /// Reads the next row of MCUs into the `stored`-th of `blocks`.
    pub(super) fn row(
        &mut self,
        frame: &Frame,
        blocks: &mut Coefficients,
        stored: usize,
    ) -> Result<(), String> {
        if let [part] = &self.parts[..] {
            let index = part.index;
            for column in 0..frame.components[index].blocks_wide {
                if self.begin_mcu()? {
                    self.block(0, blocks.block(index, column, stored))?;
                }
            }
            return Ok(());
        }
        for mcu in 0..frame.mcu_columns {
            if !self.begin_mcu()? {
                continue;
            }
            for part in 0..self.parts.len() {
                let index = self.parts[part].index;
                let component = &frame.components[index];
                for y in 0..component.v {
                    for x in 0..component.h {
                        let (column, row) = (mcu * component.h + x, stored * component.v + y);
                        self.block(part, blocks.block(index, column, row))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes over a restart where one is due. `false` where data was missing before, so that this MCU
    /// stays as it is.
    fn begin_mcu(&mut self) -> Result<bool, String> {
        if self.restart_interval > 0 {
            if self.until_restart == 0 {
                self.bits.restart(self.next_restart)?;
                self.next_restart = (self.next_restart + 1) & 7;
                self.until_restart = self.restart_interval;
                self.end_of_band = 0;
                for part in &mut self.parts {
                    part.last_dc = 0;
                }
            }
            self.until_restart -= 1;
        }
        Ok(!self.bits.exhausted())
    }

    fn block(&mut self, part: usize, block: &mut Block) -> Result<(), String> {
        let Part {
            dc, ac, last_dc, ..
        } = &mut self.parts[part];
        let (bits, low) = (&mut self.bits, self.low);
        match (self.coding, dc, ac) {
            (Coding::Sequential, Some(dc), Some(ac)) => {
                block[0] = difference(bits, dc, last_dc)? as i16;
                sequential_ac(bits, ac, block);
            }
            (Coding::DcFirst, Some(dc), _) => {
                block[0] = (difference(bits, dc, last_dc)? << low) as i16;
            }
            (Coding::AcFirst, _, Some(ac)) => {
                let end_of_band = &mut self.end_of_band;
                first_ac(bits, ac, self.band, low, end_of_band, block);
            }
            (Coding::AcRefined, _, Some(ac)) => {
                let end_of_band = &mut self.end_of_band;
                refined_ac(bits, ac, self.band, low, end_of_band, block);
            }
            // The only one without a table.
            _ => {
                if bits.take(1) == 1 {
                    block[0] |= 1 << low;
                }
            }
        }
        Ok(())
    }
}

fn difference(bits: &mut Bits<'_>, table: &Table, last: &mut i32) -> Result<i32, String> {
    let size = bits.symbol(table);
    let sum = last.checked_add(bits.signed(size.into()));
    *last = sum.ok_or("its coefficients grow beyond all bounds")?;
    Ok(*last)
}

fn sequential_ac(bits: &mut Bits<'_>, table: &Table, block: &mut Block) {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(table);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 0xf));
        if size > 0 {
            k += run;
            block[usize::from(ZIGZAG[k])] = bits.signed(size) as i16;
        } else if run == 15 {
            k += 15;
        } else {
            break;
        }
        k += 1;
    }
}

/// The first scan of a band (G.1.2.2).
fn first_ac(
    bits: &mut Bits<'_>,
    table: &Table,
    (first, last): (usize, usize),
    low: u8,
    end_of_band: &mut u32,
    block: &mut Block,
) {
    if *end_of_band > 0 {
        *end_of_band -= 1;
        return;
    }
    let mut k = first;
    while k <= last {
        let symbol = bits.symbol(table);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 0xf));
        if size > 0 {
            k += run;
            block[usize::from(ZIGZAG[k])] = (bits.signed(size) << low) as i16;
        } else if run == 15 {
            k += 15;
        } else {
            // This block is the first of the run.
            *end_of_band = (1 << run) + bits.take(run as u32) - 1;
            break;
        }
        k += 1;
    }
}

/// A later scan of a band: one more bit for coefficients that are known, and new ones of size 1 in
/// between (G.1.2.3).
fn refined_ac(
    bits: &mut Bits<'_>,
    table: &Table,
    (first, last): (usize, usize),
    low: u8,
    end_of_band: &mut u32,
    block: &mut Block,
) {
    let one = 1i16 << low;
    let mut k = first;
    if *end_of_band == 0 {
        while k <= last {
            let symbol = bits.symbol(table);
            let (mut run, size) = (symbol >> 4, symbol & 0xf);
            let mut new = 0;
            if size > 0 {
                new = if bits.take(1) == 1 { one } else { -one };
            } else if run < 15 {
                *end_of_band = (1 << run) + bits.take(run.into());
                break;
            }
            while k <= last {
                let known = &mut block[usize::from(ZIGZAG[k])];
                if *known != 0 {
                    refine(bits, one, known);
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if new != 0 {
                block[usize::from(ZIGZAG[k])] = new;
            }
            k += 1;
        }
    }
    if *end_of_band > 0 {
        while k <= last {
            let known = &mut block[usize::from(ZIGZAG[k])];
            if *known != 0 {
                refine(bits, one, known);
            }
            k += 1;
        }
        *end_of_band -= 1;
    }
}

fn refine(bits: &mut Bits<'_>, one: i16, known: &mut i16) {
    if bits.take(1) == 1 && *known & one == 0 {
        *known = known.wrapping_add(if *known >= 0 { one } else { -one });
    }
}
