//! What a client learns by reflection: the files that describe the services here, as protobuf
//! describes itself.

use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

/// `inference.proto`, and the files of the services for health and reflection. Written by
/// `tests/goldens/grpc/make.py`.
const COMPILED: &[u8] = include_bytes!("descriptors.binpb");

/// Files by their names and by what they define.
#[derive(Clone, Debug)]
pub struct Descriptors(Vec<File>);

#[derive(Clone, Debug)]
struct File {
    name: String,
    /// Full names of its messages, enumerations, services and methods.
    symbols: Vec<String>,
    encoded: Vec<u8>,
}

impl Default for Descriptors {
    fn default() -> Self {
        // Compiled in, and read by a test.
        let set = FileDescriptorSet::decode(COMPILED).unwrap_or_default();
        Self(set.file.iter().map(File::new).collect())
    }
}

impl Descriptors {
    /// A file by its name, encoded.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        let file = self.0.iter().find(|file| file.name == name)?;
        Some(&file.encoded)
    }

    /// The file that defines a message, an enumeration, a service or a method, encoded.
    pub fn defining(&self, symbol: &str) -> Option<&[u8]> {
        let defines = |file: &&File| file.symbols.iter().any(|known| known == symbol);
        Some(&self.0.iter().find(defines)?.encoded)
    }
}

impl File {
    fn new(file: &FileDescriptorProto) -> Self {
        let package = file.package();
        let mut symbols = Vec::new();
        for message in &file.message_type {
            add_message(package, message, &mut symbols);
        }
        for kind in &file.enum_type {
            symbols.push(format!("{package}.{}", kind.name()));
        }
        for service in &file.service {
            add_service(package, service, &mut symbols);
        }
        Self {
            name: file.name().to_owned(),
            symbols,
            encoded: file.encode_to_vec(),
        }
    }
}

fn add_message(parent: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = format!("{parent}.{}", message.name());
    for child in &message.nested_type {
        add_message(&name, child, symbols);
    }
    for kind in &message.enum_type {
        symbols.push(format!("{name}.{}", kind.name()));
    }
    symbols.push(name);
}

fn add_service(package: &str, service: &ServiceDescriptorProto, symbols: &mut Vec<String>) {
    let name = format!("{package}.{}", service.name());
    for method in &service.method {
        symbols.push(format!("{name}.{}", method.name()));
    }
    symbols.push(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::proto::SERVICE;

    #[test]
    fn files_are_found_by_name_and_by_whatever_they_define() {
        let descriptors = Descriptors::default();
        let file = descriptors.file("inference.proto").unwrap();
        for symbol in [
            SERVICE,
            "inference.GRPCInferenceService.ModelInfer",
            "inference.ModelInferRequest.InferInputTensor",
            "inference.ModelInput.Format",
        ] {
            assert_eq!(descriptors.defining(symbol), Some(file), "{symbol}");
        }
        assert!(descriptors.defining("grpc.health.v1.Health").is_some());
        assert_eq!(descriptors.defining("inference.Nothing"), None);
        assert_eq!(descriptors.file("another.proto"), None);
    }
}
