//! The stack machine. Its values lie in a list and refer to each other by position, so that no
//! program, however nested, makes it recurse. Each instruction adds at most one value, one place on
//! the stack, one mark and one entry of the memo, so a limit on instructions bounds them all.

use std::collections::HashMap;

use super::{
    Storage, View,
    program::Program,
    values::{Global, Id, Value, global},
};

/// Axes of a tensor: far above any weight's.
const MAX_RANK: usize = 8;

/// Instructions of all pickles of a file together. A tensor takes about 45 of them, so this is room for
/// twenty thousand, with everything that a training program keeps beside them.
pub(super) const MAX_INSTRUCTIONS: usize = 1 << 20;

/// Digits of a storage's number.
const MAX_KEY: usize = 20;

/// The machine, and the rest of its program.
pub(super) struct Machine<'p> {
    program: Program<'p>,
    /// Instructions that may still be executed.
    left: usize,
    values: Vec<Value<'p>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'p> Machine<'p> {
    /// Runs a program to its end: the machine and the value that is left.
    pub(super) fn run(program: &'p [u8]) -> Result<(Self, Id), String> {
        Self::run_within(program, MAX_INSTRUCTIONS)
    }

    /// Runs the program that follows, within what this one has left of its instructions.
    pub(super) fn run_next(&self) -> Result<(Self, Id), String> {
        Self::run_within(self.program.0, self.left)
    }

    fn run_within(program: &'p [u8], limit: usize) -> Result<(Self, Id), String> {
        let mut machine = Self {
            program: Program(program),
            left: limit,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step()? {}
        let top = machine.pop()?;
        Ok((machine, top))
    }

    pub(super) fn value(&self, id: Id) -> &Value<'p> {
        &self.values[id]
    }

    /// What follows the program.
    pub(super) fn rest(&self) -> &'p [u8] {
        self.program.0
    }

    /// Every storage that was named.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// One instruction; false for the last.
    fn step(&mut self) -> Result<bool, String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            format!(
                "has more than {MAX_INSTRUCTIONS} instructions, which no state dict needs. Save \
                 tensors only: torch.save(model.state_dict(), FILE)"
            )
        })?;
        match self.program.byte()? {
            b'.' => return Ok(false),
            0x80 => match self.program.byte()? {
                2..=5 => {}
                other => return Err(format!("is a pickle of protocol {other}; 2 to 5 are read")),
            },
            0x95 => drop(self.program.take(8)?), // the length of a frame
            b'(' => self.marks.push(self.stack.len()),

            b'N' => self.push(Value::None),
            flag @ (0x88 | 0x89) => self.push(Value::Bool(flag == 0x88)),
            b'G' => {
                self.program.take(8)?;
                self.push(Value::Opaque);
            }
            b'K' => {
                let value = i64::from(self.program.byte()?);
                self.push(Value::Int(value));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.program.array()?);
                self.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.program.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            0x8c | b'U' => {
                let length = self.program.byte()?;
                self.text(length.into())?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.program.array()?);
                self.text(length as usize)?;
            }

            b')' => self.push(Value::Tuple(Vec::new())),
            count @ 0x85..=0x87 => {
                let count = usize::from(count - 0x84);
                let items = self.popped(count)?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let items = self.popped(1)?;
                self.append(&items)?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let items = self.popped(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }

            b'q' => {
                let key = self.program.byte()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.program.array()?);
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let key = self.program.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.program.array()?);
                self.recall(key)?;
            }

            b'c' => {
                let (module, name) = (self.program.line()?, self.program.line()?);
                self.push(Value::Global(global(&module, &name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let found = match (self.value(module), self.value(name)) {
                    (Value::Text(module), Value::Text(name)) => global(module, name)?,
                    _ => return Err(damaged()),
                };
                self.push(Value::Global(found));
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => {
                return Err(format!(
                    "has the instruction 0x{other:02x}, which no state dict needs; nothing was \
                     executed. Save tensors only: torch.save(model.state_dict(), FILE)"
                ));
            }
        }
        Ok(true)
    }

    /// A reference to a storage: `('storage', class, key, device, elements)`. Before torch 1.6 a
    /// sixth part could make it a part of another storage, which torch has not written since 0.4.
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Value::Tuple(parts) = self.value(id) else {
            return Err(damaged());
        };
        let [_, class, key, _, _, ref part @ ..] = parts[..] else {
            return Err(damaged());
        };
        if part.iter().any(|&part| *self.value(part) != Value::None) {
            return Err("has a storage inside another; save it with a newer torch".to_owned());
        }
        let (Value::Global(Global::StorageOf(element)), Value::Text(key)) =
            (self.value(class), self.value(key))
        else {
            return Err(damaged());
        };
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("names a storage in a way that torch.save does not".to_owned());
        }
        let storage = Storage {
            element: element.clone(),
            key: (*key).to_owned(),
        };
        self.push(Value::Storage(storage));
        Ok(())
    }

    /// What stands for a call.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err(damaged());
        };
        let made = match (self.value(function), &arguments[..]) {
            (Value::Global(Global::OrderedDict), []) => Value::Dict(Vec::new()),
            (Value::Global(Global::RebuildParameter), &[tensor, ..]) => match self.value(tensor) {
                Value::Tensor(view) => Value::Tensor(view.clone()),
                _ => return Err(damaged()),
            },
            (Value::Global(Global::RebuildTensor), &[storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = self.value(storage) else {
                    return Err(damaged());
                };
                let shape = self.lengths(shape)?;
                let view = View {
                    storage: storage.clone(),
                    offset: self.length(offset)?,
                    shape: shape.into_iter().map(|n| n as usize).collect(),
                    strides: self.lengths(strides)?,
                };
                if view.shape.len() != view.strides.len() {
                    return Err(damaged());
                }
                Value::Tensor(Box::new(view))
            }
            _ => {
                return Err(
                    "calls something in a way that no state dict does; nothing was executed"
                        .to_owned(),
                );
            }
        };
        self.push(made);
        Ok(())
    }

    /// Attributes of an object: those of a dictionary (`_metadata`, versions of modules) tell
    /// nothing that is needed.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.stack.last().map(|&id| self.value(id)) {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(damaged()),
        }
    }

    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let &list = self.stack.last().ok_or_else(damaged)?;
        match &mut self.values[list] {
            Value::List(entries) => {
                entries.extend(items);
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let Some(&dict) = self.stack.last() else {
            return Err(damaged());
        };
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[dict] {
            Value::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(damaged()),
        }
    }

    /// A whole number of up to 8 bytes.
    fn long(&mut self) -> Result<(), String> {
        let length = usize::from(self.program.byte()?);
        let bytes = self.program.take(length)?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let value = if length > 8 {
            Value::Opaque
        } else {
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..length].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        };
        self.push(value);
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = str::from_utf8(self.program.take(length)?).map_err(|_| damaged())?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn lengths(&self, tuple: Id) -> Result<Vec<u64>, String> {
        match self.value(tuple) {
            Value::Tuple(items) if items.len() <= MAX_RANK => {
                items.iter().map(|&item| self.length(item)).collect()
            }
            _ => Err(damaged()),
        }
    }

    fn length(&self, id: Id) -> Result<u64, String> {
        match self.value(id) {
            Value::Int(value) => u64::try_from(*value).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }

    fn remember(&mut self, key: u32) -> Result<(), String> {
        let &top = self.stack.last().ok_or_else(damaged)?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), String> {
        let &id = self.memo.get(&key).ok_or_else(damaged)?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, value: Value<'p>) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(damaged)
    }

    fn popped(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let at = self.stack.len().checked_sub(count).ok_or_else(damaged)?;
        Ok(self.stack.split_off(at))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or_else(damaged)?;
        let count = self.stack.len().checked_sub(mark).ok_or_else(damaged)?;
        self.popped(count)
    }
}

pub(super) fn damaged() -> String {
    "is damaged, or not the pickle of a state dict".to_owned()
}
