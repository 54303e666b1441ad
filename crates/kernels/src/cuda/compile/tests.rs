//! The sources compile for every architecture from Turing on. Needs NVRTC, not a card: PyPI carries
//! it (`tests/gpu/nvrtc.sh` of the repository installs it and says where it is).

use super::*;
use crate::reference::AttentionShape;

fn network(tokens: usize, heads: usize, head_size: usize, layers: usize) -> Network {
    Network {
        attention: AttentionShape {
            tokens,
            heads,
            head_size,
        },
        layers,
        read: 1,
        directions: Some(6),
    }
}

#[test]
fn kernels_compile_for_every_architecture() {
    // SAFETY: only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        assert!(
            std::env::var_os("CI").is_none(),
            "under CI, NVRTC has to be there: tests/gpu/nvrtc.sh installs it, LD_LIBRARY_PATH names it"
        );
        eprintln!("NOT RUN: there is no NVRTC here");
        return;
    }
    let sources = [
        Source::Normalize,
        Source::Attention,
        Source::Rollout,
        Source::Attribution,
        Source::ClassToken,
    ];
    // Shared memory of a block, as the programming guide lists it.
    let cards = [
        ((7, 5), 65_536),
        ((8, 0), 166_912),
        ((8, 6), 101_376),
        ((8, 9), 101_376),
        ((9, 0), 232_448),
        ((10, 0), 232_448),
        ((12, 0), 101_376),
    ];
    for (capability, shared) in cards {
        // Turing's shared memory is too small for a head of 197 keys and values.
        let tokens = if capability == (7, 5) { 50 } else { 197 };
        let network = network(tokens, 3, 64, 12);
        let tiling = Tiling::choose(&network.attention, shared).unwrap();
        for source in sources {
            let binary = compile(source, capability, &network, tiling).unwrap();
            assert!(
                binary.starts_with(b"\x7fELF"),
                "{source:?} for {capability:?}"
            );
        }
    }
    for network in [
        network(50, 12, 64, 12),
        network(257, 16, 80, 32),
        network(577, 16, 64, 24),
        network(17, 2, 16, 2),
    ] {
        let tiling = Tiling::choose(&network.attention, 232_448).unwrap();
        for source in sources {
            compile(source, (9, 0), &network, tiling).unwrap();
        }
    }
}

#[test]
fn what_the_compiler_says_is_in_the_error() {
    // SAFETY: only tries to open the library.
    if !unsafe { sys::is_culib_present() } {
        return;
    }
    let source = CString::new("__global__ void f() { undeclared(); }").unwrap();
    let program = Program::new(&source, &CString::new("broken.cu").unwrap()).unwrap();
    let error = program.compile(&[]).unwrap_err().to_string();
    assert!(error.contains("undeclared"), "{error}");
}
