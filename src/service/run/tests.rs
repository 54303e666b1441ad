use std::fs;

use super::*;
use crate::{
    classify::MapRetention,
    service::{
        RequestedOptions,
        tests::{KEY, MIB, service},
    },
    store::Owner,
};

const QUICK: Duration = Duration::from_millis(1);

#[tokio::test]
async fn rows_come_back_in_their_order_and_each_counts_against_the_quota() {
    let service = service(&format!("{KEY} rate=1/h burst=3"), MIB, QUICK);
    let model = service.models.default_model();
    let (height, width) = model.model.manifest.input_size().unwrap();
    let row = |first: f32| {
        let mut tensor = vec![0.0; 3 * height * width];
        tensor[0] = first;
        tensor
    };
    let mut admitted = service.admit_default(None).unwrap();
    let rows = Rows::Tensors(vec![row(3.0), row(1.0), row(2.0)]);
    let (inferences, _) = admitted.infer(rows).await.unwrap();
    let firsts = inferences.iter().map(|row| row.output.logits[0]);
    assert_eq!(firsts.collect::<Vec<f32>>(), [3.0, 1.0, 2.0]);
    let error = service.admit_default(None).unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded { .. }), "{error}");
}

#[tokio::test]
async fn an_image_that_is_none_fails_alone_where_images_are_classified() {
    let service = service(KEY, MIB, QUICK);
    let model = service.models.default_model();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let dog = Bytes::from(fs::read(folder.join("models/samples/dog.jpg")).unwrap());
    let none = Bytes::from_static(b"no image at all");
    let requested = RequestedOptions {
        attention: Some(MapRetention::None),
        ..RequestedOptions::default()
    };
    let options = requested.resolve(Owner::ANYONE, &model.model).unwrap();
    let mut admitted = service.admit_default(None).unwrap();
    let images = vec![dog.clone(), none.clone(), dog.clone()];
    let outcomes = admitted.classify(images, options).await;
    let codes = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(Error::code));
    let expected = [None, Some("unsupported_format"), None];
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    // Rows of an inference request stand or fall together.
    let mut admitted = service.admit_default(None).unwrap();
    let error = admitted
        .infer(Rows::Images(vec![dog, none]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "unsupported_format");
}
