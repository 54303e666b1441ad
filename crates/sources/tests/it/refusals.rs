//! What the hub refuses, and what the message says to do.

use crate::{
    stand_in::{Access, StandIn},
    support::Machine,
};

const FILES: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors", b"weights")];

fn hub(access: Access) -> StandIn {
    let hub = StandIn::start();
    hub.commit("org/tiny", "main", &FILES);
    hub.set_access("org/tiny", access);
    hub.set_token("hf_good");
    hub
}

fn with_token(hub: &StandIn, token: &'static str) -> Machine {
    Machine {
        token: Some(token),
        ..Machine::new(hub)
    }
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn a_model_that_is_not_there_may_be_private() {
    let hub = hub(Access::Private);
    for address in ["hf://org/nothing", "hf://org/tiny"] {
        let message = Machine::new(&hub).refusal(address);
        says(
            &message,
            &["there is no model org/", &hub.endpoint(), "HF_TOKEN"],
        );
    }
    let message = with_token(&hub, "hf_good").refusal("hf://org/nothing");
    says(&message, &["the token of HF_TOKEN may not see it"]);
    assert!(with_token(&hub, "hf_good").fetch("hf://org/tiny").is_ok());
}

#[test]
fn a_gated_model_says_what_to_accept_and_where() {
    let hub = hub(Access::Gated);
    let page = format!("{}/org/tiny", hub.endpoint());
    let message = Machine::new(&hub).refusal("hf://org/tiny");
    says(
        &message,
        &["gated", &page, "then set HF_TOKEN", "/settings/tokens"],
    );
    let message = with_token(&hub, "hf_good").refusal("hf://org/tiny");
    says(&message, &["gated", &page, "the token of HF_TOKEN"]);
}

#[test]
fn a_token_that_nobody_knows_is_named_by_its_place_and_not_shown() {
    let hub = hub(Access::Open);
    let message = with_token(&hub, "hf_mistyped").refusal("hf://org/tiny");
    says(&message, &["the token of HF_TOKEN", "/settings/tokens"]);
    assert!(!message.contains("hf_mistyped"), "{message}");
}

#[test]
fn a_revision_that_is_not_there_is_named() {
    let hub = hub(Access::Open);
    let message = Machine::new(&hub).refusal("hf://org/tiny@v9");
    says(&message, &["`v9`", "org/tiny"]);
}

#[test]
fn a_model_without_weights_says_what_it_has() {
    let hub = StandIn::start();
    hub.commit(
        "org/keras",
        "main",
        &[("tf_model.h5", b"h5"), ("config.json", b"{}")],
    );
    let message = Machine::new(&hub).refusal("hf://org/keras");
    says(
        &message,
        &["hf://org/keras", "TensorFlow", "model.safetensors"],
    );
}

#[test]
fn a_server_that_is_no_hub_is_said_to_be_none() {
    let hub = StandIn::start();
    hub.set_down(true);
    let message = Machine::new(&hub).refusal("hf://org/tiny");
    says(&message, &["127.0.0.1", "cannot be reached"]);
}
