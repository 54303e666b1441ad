//! The values of one input, read as what the model takes: a known number of values of one type.

use std::fmt;

use bytes::{Buf, Bytes};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::{
    Datatype,
    request::{Data, Input, malformed},
};
use crate::Result;
use patchlight_escape::Excerpt;

impl Input {
    /// The values of an `FP32` tensor of so many elements. All are finite: a model gives no answer
    /// to anything else.
    ///
    /// # Errors
    /// [`Error::MalformedRequest`](crate::Error::MalformedRequest) when there are more or fewer, or
    /// when they are something else.
    pub fn fp32(&self, count: usize) -> Result<Vec<f32>> {
        self.expect(Datatype::Fp32)?;
        let values: Vec<f32> = match &self.data {
            Data::Fp32(values) => self.complete(values.clone(), count)?,
            Data::Elements(_) => return self.refuse(format_args!("it has bytes and no numbers")),
            Data::Binary(bytes) => {
                if Some(bytes.len()) != count.checked_mul(4) {
                    return self.refuse(format_args!(
                        "its shape asks for {count} values of 4 bytes, it has {} bytes",
                        bytes.len()
                    ));
                }
                let values = bytes.as_chunks::<4>().0.iter();
                values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            Data::Json(text) => {
                let mut values = Vec::with_capacity(count.min(text.len() / 2 + 1));
                self.flatten(text, Flattener::<'_, f32>::new(&mut values, count))?;
                self.complete(values, count)?
            }
        };
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => self.refuse(format_args!("it holds values that are not finite")),
        }
    }

    /// The elements of a `BYTES` tensor of so many. In JSON they are strings; `text` makes the
    /// bytes of one.
    ///
    /// # Errors
    /// As [`fp32`](Self::fp32), and those of `text`.
    pub fn bytes(&self, count: usize, text: impl Fn(&str) -> Result<Bytes>) -> Result<Vec<Bytes>> {
        self.expect(Datatype::Bytes)?;
        match &self.data {
            Data::Elements(elements) => self.complete(elements.clone(), count),
            Data::Fp32(_) => self.refuse(format_args!("it has numbers and no bytes")),
            Data::Binary(bytes) => self.elements(bytes.clone(), count),
            Data::Json(json) => {
                let mut strings = Vec::new();
                self.flatten(json, Flattener::<'_, String>::new(&mut strings, count))?;
                let strings = self.complete(strings, count)?;
                strings.iter().map(|string| text(string)).collect()
            }
        }
    }

    /// Splits binary `BYTES`: a length in 32 bits before each element.
    fn elements(&self, mut bytes: Bytes, count: usize) -> Result<Vec<Bytes>> {
        let mut elements = Vec::new();
        while bytes.has_remaining() {
            if elements.len() == count {
                return self.refuse(format_args!("it holds more than the {count} of its shape"));
            }
            let length = bytes.try_get_u32_le().ok().map(|length| length as usize);
            match length.filter(|&length| length <= bytes.len()) {
                Some(length) => elements.push(bytes.split_to(length)),
                None => return self.refuse(format_args!("its last element is cut off")),
            }
        }
        self.complete(elements, count)
    }

    fn expect(&self, datatype: Datatype) -> Result<()> {
        let datatype = datatype.name();
        match self.datatype == datatype {
            true => Ok(()),
            false => self.refuse(format_args!(
                "its datatype is `{}`, this model takes {datatype}",
                Excerpt(&self.datatype)
            )),
        }
    }

    fn complete<T>(&self, values: Vec<T>, count: usize) -> Result<Vec<T>> {
        match values.len() == count {
            true => Ok(values),
            false => self.refuse(format_args!(
                "its shape asks for {count} values, it has {}",
                values.len()
            )),
        }
    }

    fn flatten<T>(&self, text: &[u8], flattener: Flattener<'_, T>) -> Result<()>
    where
        for<'a, 'de> Flattener<'a, T>: DeserializeSeed<'de, Value = ()>,
    {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let read = flattener.deserialize(&mut reader);
        match read.and_then(|()| reader.end()) {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(format_args!("its data: {}", Excerpt(error))),
        }
    }

    /// An error that names this input.
    pub fn refuse<T>(&self, error: fmt::Arguments<'_>) -> Result<T> {
        malformed(format_args!("input `{}`: {error}", Excerpt(&self.name)))
    }

    /// The product of its shape, if that is a number.
    pub fn elements_in_shape(&self) -> Option<usize> {
        let product = self.shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
        product.and_then(|product| usize::try_from(product).ok())
    }
}

/// Collects the leaves of nested arrays, at most so many.
struct Flattener<'a, T> {
    leaves: &'a mut Vec<T>,
    max_leaves: usize,
}

impl<'a, T> Flattener<'a, T> {
    fn new(leaves: &'a mut Vec<T>, max_leaves: usize) -> Self {
        Self { leaves, max_leaves }
    }

    fn take<E: serde::de::Error>(self, leaf: T) -> std::result::Result<(), E> {
        if self.leaves.len() == self.max_leaves {
            return Err(E::custom(format_args!(
                "more than the {} values of its shape",
                self.max_leaves
            )));
        }
        self.leaves.push(leaf);
        Ok(())
    }
}

macro_rules! leaves {
    ($leaf:ty, $expected:literal, $($visit:item)+) => {
        impl<'de> DeserializeSeed<'de> for Flattener<'_, $leaf> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for Flattener<'_, $leaf> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expected)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<(), A::Error> {
                let max_leaves = self.max_leaves;
                while elements
                    .next_element_seed(Flattener::<'_, $leaf>::new(&mut *self.leaves, max_leaves))?
                    .is_some()
                {}
                Ok(())
            }

            $($visit)+
        }
    };
}

leaves! {
    f32, "numbers in arrays",
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<(), E> {
        self.take(value as f32)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<(), E> {
        self.take(value as f32)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<(), E> {
        self.take(value as f32)
    }
}

leaves! {
    String, "strings in arrays",
    fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<(), E> {
        self.take(value.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> std::result::Result<(), E> {
        self.take(value)
    }
}

#[cfg(test)]
mod tests;
