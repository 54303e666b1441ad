//! Several devices that serve one model.

use std::{fmt, str::FromStr};

use super::Device;

/// One device, or several cards of one kind, each once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Devices {
    first: Device,
    more: Vec<Device>,
}

impl Devices {
    /// The first, by which a model's precision is chosen.
    pub fn first(&self) -> Device {
        self.first
    }

    /// All of them, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = Device> {
        [self.first].into_iter().chain(self.more.iter().copied())
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        1 + self.more.len()
    }

    /// Adds one.
    ///
    /// # Errors
    /// If it is there, or of another kind than the first.
    pub fn add(&mut self, device: Device) -> Result<(), String> {
        if self.iter().any(|known| known == device) {
            return Err(format!("`{device}` is named twice"));
        }
        match (self.first, device) {
            (Device::Cuda(_), Device::Cuda(_)) | (Device::TensorRt(_), Device::TensorRt(_)) => {
                self.more.push(device);
                Ok(())
            }
            (first, _) => Err(format!(
                "`{first}` and `{device}` cannot serve together: several devices are cards of one \
                 kind, such as cuda:0,1"
            )),
        }
    }
}

impl From<Device> for Devices {
    fn from(first: Device) -> Self {
        Self {
            first,
            more: Vec::new(),
        }
    }
}

impl fmt::Display for Devices {
    /// As it is parsed: `cuda:0,cuda:1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.more
            .iter()
            .try_for_each(|device| write!(f, ",{device}"))
    }
}

impl FromStr for Devices {
    type Err = String;

    /// Devices with commas between them; one that is a number alone is of the kind of the one before
    /// it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default().parse()?;
        let mut devices = Self::from(first);
        for part in parts {
            let last = devices.more.last().copied().unwrap_or(first);
            let device = match (last, part.parse::<u32>()) {
                (Device::Cuda(_), Ok(card)) => Device::Cuda(card),
                (Device::TensorRt(_), Ok(card)) => Device::TensorRt(card),
                _ => part.parse()?,
            };
            devices.add(device)?;
        }
        Ok(devices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(text: &str) -> Vec<Device> {
        let devices: Devices = text.parse().unwrap();
        assert_eq!(devices.to_string().parse(), Ok(devices.clone()));
        assert_eq!(devices.count(), devices.iter().count());
        devices.iter().collect()
    }

    #[test]
    fn one_device_is_a_list_of_one() {
        assert_eq!(cards("auto"), [Device::Auto]);
        assert_eq!(cards("cuda"), [Device::Cuda(0)]);
    }

    #[test]
    fn numbers_after_a_card_are_cards_of_its_kind() {
        let two = [Device::Cuda(0), Device::Cuda(1)];
        for text in ["cuda:0,1", "cuda:0,cuda:1", "cuda, 1"] {
            assert_eq!(cards(text), two, "{text}");
        }
        assert_eq!(
            cards("tensorrt:3,1"),
            [Device::TensorRt(3), Device::TensorRt(1)]
        );
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused_and_says_why() {
        for (text, part) in [
            ("cuda:0,0", "twice"),
            ("cuda,cuda:0", "twice"),
            ("cpu,cuda:0", "together"),
            ("cuda:0,tensorrt:1", "together"),
            ("auto,auto", "twice"),
            ("cpu,1", "not one of"),
            ("cuda:0,", "not one of"),
            ("", "not one of"),
        ] {
            let error = text.parse::<Devices>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
