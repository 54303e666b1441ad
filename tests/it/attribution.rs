//! More than one map of the same forward pass, over a real socket, with the demo model.

use serde_json::Value;

use crate::{
    client::{get, get_with, post},
    process::Server,
    service::{map_of, sample},
};

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("an array").iter();
    values.map(|v| v.as_f64().expect("a number")).collect()
}

fn sum_of_account(map: &Value) -> f64 {
    let number = |name: &str| map[name].as_f64().expect("a number");
    numbers(&map["values"]).iter().sum::<f64>() + number("unattributed") + number("residual")
}

#[tokio::test]
async fn attribution_of_every_kept_label_adds_up_to_its_logit() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify?top_k=5", sample("dog.jpg")).await;
    let (url, body) = (map_of(&answer), answer.json());
    assert_eq!(
        body["attention"]["maps"],
        serde_json::json!(["rollout", "class"])
    );
    let mut logits = Vec::new();
    for prediction in body["predictions"].as_array().unwrap() {
        let class = &prediction["class_id"];
        let map = get(&server.address, &format!("{url}?class={class}&format=json"))
            .await
            .json();
        assert_eq!(map["method"], "attribution");
        assert_eq!(map["class_id"], *class);
        assert_eq!(map["label"], prediction["label"]);
        assert_eq!(numbers(&map["values"]).len(), 196);
        assert!(map["residual"].as_f64().unwrap().abs() < 1e-3, "{map}");
        let logit = map["logit"].as_f64().unwrap();
        assert!((sum_of_account(&map) - logit).abs() < 1e-5);
        logits.push((logit, prediction["score"].as_f64().unwrap()));
    }
    // The logits are those that the scores were made of.
    let (best, best_score) = logits[0];
    for (logit, score) in logits {
        assert!(((logit - best).exp() - score / best_score).abs() < 1e-3);
    }
}

#[tokio::test]
async fn contrast_takes_the_same_from_every_label() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    let (url, body) = (map_of(&answer), answer.json());
    let mut differences: Vec<Vec<f64>> = Vec::new();
    for rank in 0..2 {
        let class = &body["predictions"][rank]["class_id"];
        let ask = async |contrast: bool| {
            let query = format!("{url}?class={class}&contrast={contrast}&format=json");
            get(&server.address, &query).await.json()
        };
        let (plain, contrasted) = (ask(false).await, ask(true).await);
        assert_eq!(contrasted["contrast"], true);
        assert!(contrasted["residual"].as_f64().unwrap().abs() < 1e-3);
        let logit = contrasted["logit"].as_f64().unwrap();
        assert!((sum_of_account(&contrasted) - logit).abs() < 1e-5);
        let pairs = numbers(&plain["values"]).into_iter();
        let pairs = pairs.zip(numbers(&contrasted["values"]));
        differences.push(pairs.map(|(a, b)| a - b).collect());
    }
    for (first, second) in differences[0].iter().zip(&differences[1]) {
        assert!((first - second).abs() < 1e-5);
    }
}

#[tokio::test]
async fn attribution_comes_as_an_image_that_diverges_and_as_an_array() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify", sample("dog.jpg")).await;
    let class = answer.json()["predictions"][0]["class_id"].to_string();
    let url = map_of(&answer);
    let attribution = format!("{url}?class={class}");

    let image = get(&server.address, &attribution).await;
    assert_eq!(image.header("content-type"), "image/png");
    assert_eq!(image.header("x-patchlight-view"), "overlay");
    let rollout = get(&server.address, &url).await;
    assert_ne!(image.body, rollout.body);
    assert_ne!(image.header("etag"), rollout.header("etag"));
    let named = get(&server.address, &format!("{attribution}&colormap=coolwarm")).await;
    assert_eq!(named.body, image.body);

    let npy = get_with(
        &server.address,
        &attribution,
        &[("accept", "application/x-npy")],
    )
    .await;
    let json = get(&server.address, &format!("{attribution}&format=json")).await;
    let values = numbers(&json.json()["values"]);
    assert!(values.iter().any(|&v| v < 0.0) && values.iter().any(|&v| v > 0.0));
    let data = npy.body[npy.body.len() - 4 * 196..].as_chunks::<4>().0;
    for (bytes, value) in data.iter().zip(values) {
        assert_eq!(f32::from_le_bytes(*bytes), value as f32);
    }
}

#[tokio::test]
async fn heads_are_kept_on_demand_and_come_alone_and_as_a_sheet() {
    let server = Server::demo();
    let path = "/classify?attention=heads";
    let answer = post(&server.address, path, sample("dog.jpg")).await;
    let url = map_of(&answer);
    assert_eq!(
        answer.json()["attention"]["maps"],
        serde_json::json!(["rollout", "class", "heads"])
    );

    let all = get(&server.address, &format!("{url}?layer=11&format=json")).await;
    let all = all.json();
    let heads = all["values"].as_array().unwrap();
    assert_eq!((heads.len(), numbers(&all["prefix_mass"]).len()), (3, 3));
    for (head, values) in heads.iter().enumerate() {
        let one = format!("{url}?layer=11&head={head}&format=json");
        let one = get(&server.address, &one).await.json();
        assert_eq!(
            (&one["method"], &one["head"]),
            (&"attention".into(), &head.into())
        );
        let rows = values.as_array().unwrap().iter();
        let joined: Vec<f64> = rows.flat_map(numbers).collect();
        assert_eq!(joined, numbers(&one["values"]));
        let mass = joined.iter().sum::<f64>() + one["prefix_mass"].as_f64().unwrap();
        assert!((mass - 1.0).abs() < 1e-4, "{mass}");
    }

    let npy = get(&server.address, &format!("{url}?layer=11&format=npy")).await;
    let header = String::from_utf8_lossy(&npy.body[..128]).into_owned();
    assert!(header.contains("'shape': (3, 14, 14)"), "{header}");

    let one = get(&server.address, &format!("{url}?layer=11&head=2")).await;
    assert_eq!(one.header("x-patchlight-view"), "overlay");
    let sheet = get(&server.address, &format!("{url}?layer=11")).await;
    assert_eq!(sheet.header("content-type"), "image/png");
    let size = image::load_from_memory(&sheet.body).expect("a PNG");
    // Two by two maps of 14 × 14 patches of 16 pixels.
    assert_eq!((size.width(), size.height()), (466, 466));
}

#[tokio::test]
async fn a_map_that_is_not_kept_says_how_to_get_it() {
    let server = Server::demo();
    let answer = post(&server.address, "/classify?top_k=1", sample("dog.jpg")).await;
    let url = map_of(&answer);
    let best = answer.json()["predictions"][0]["class_id"]
        .as_u64()
        .unwrap();

    let heads = get(&server.address, &format!("{url}?layer=0")).await;
    heads.is_problem(409, "map_not_kept");
    assert!(heads.text().contains("attention=heads"));

    let mut kept = 0;
    for class in 0..8 {
        let answer = get(&server.address, &format!("{url}?class={class}")).await;
        match answer.status.as_u16() {
            200 => kept += 1,
            _ => {
                answer.is_problem(409, "map_not_kept");
                assert!(
                    answer.text().contains(&format!("{best}, ")),
                    "{}",
                    answer.text()
                );
            }
        }
    }
    assert!(kept <= 5);
}

#[tokio::test]
async fn contradictory_map_parameters_are_refused() {
    let server = Server::demo();
    let answer = post(
        &server.address,
        "/classify?attention=heads",
        sample("dog.jpg"),
    )
    .await;
    let best = answer.json()["predictions"][0]["class_id"].to_string();
    let url = map_of(&answer);
    for query in [
        format!("class={best}&layer=0"),
        format!("class={best}&start_layer=1"),
        "layer=0&start_layer=1".to_owned(),
        "head=0".to_owned(),
        "contrast=true".to_owned(),
        "layer=0&contrast=true".to_owned(),
        "layer=0&view=contour".to_owned(),
    ] {
        get(&server.address, &format!("{url}?{query}"))
            .await
            .is_problem(400, "malformed_request");
    }
    for query in [
        format!("class={best}&colormap=turbo"),
        format!("class={best}&contrast=yes"),
        "class=1000000".to_owned(),
        "class=dog".to_owned(),
        "layer=12".to_owned(),
        "layer=0&head=3".to_owned(),
    ] {
        get(&server.address, &format!("{url}?{query}"))
            .await
            .is_problem(400, "invalid_parameter");
    }
}
