//! A web service that turns POST requests into records, and responds when the outcome is known.
//!
//! ```text
//! cargo run --example http_service [BOOTSTRAP_SERVERS] [LISTEN_ON]
//! curl -d 'two pairs of shoes' 'localhost:8080/topics/orders?key=customer-7'
//! curl localhost:8080/figures
//! ```
//!
//! | status | meaning                                                        | send it again? |
//! |--------|----------------------------------------------------------------|----------------|
//! | 200    | written, with partition and offset                             | no             |
//! | 400    | refused, and would be again                                    | no             |
//! | 503    | not written, or refused for now                                | yes            |
//! | 504    | may or may not be written                                      | may duplicate  |
//!
//! SIGINT or SIGTERM stops the requests first, then the producer.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, Responder, get, post, web};
use forebay::{Config, Producer, Record, SendError, Unconfirmed};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Query {
    key: Option<String>,
}

#[post("/topics/{topic}")]
async fn produce(
    producer: web::Data<Producer>,
    topic: web::Path<String>,
    query: web::Query<Query>,
    body: web::Bytes,
) -> HttpResponse {
    let mut record = Record::to(topic.into_inner()).value(body);
    if let Some(key) = query.into_inner().key {
        record = record.key(key);
    }
    // If the client hangs up, this future is dropped. Before the first `await` is over, the record
    // is then not accepted. After it, the record is delivered, but no client learns of it.
    let receipt = match producer.send(record).await {
        Ok(receipt) => receipt,
        Err(refused) => return problem(status_of(&refused), &refused),
    };
    match receipt.await {
        Ok(acked) => HttpResponse::Ok().json(json!({
            "partition": acked.partition,
            "offset": acked.offset,
        })),
        Err(undelivered @ Unconfirmed::NotWritten(_)) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &undelivered)
        }
        // It may be in the log: whoever sends it again may make a duplicate.
        Err(undelivered) => problem(StatusCode::GATEWAY_TIMEOUT, &undelivered),
    }
}

/// The status of a refusal. A refusal that may pass by itself is not the request's fault.
fn status_of(refused: &SendError) -> StatusCode {
    match refused {
        // No broker could be reached, or none knows the topic, perhaps only not yet.
        SendError::TopicUnknown { .. } => StatusCode::SERVICE_UNAVAILABLE,
        SendError::NoMemory { .. } | SendError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn problem(status: StatusCode, why: &dyn std::error::Error) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": why.to_string() }))
}

#[get("/figures")]
async fn figures(producer: web::Data<Producer>) -> impl Responder {
    match producer.figures().await {
        Ok(figures) => HttpResponse::Ok().json(figures),
        Err(gone) => problem(StatusCode::SERVICE_UNAVAILABLE, &gone),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap_servers = args.next().unwrap_or_else(|| "localhost:9092".into());
    let listen_on = args.next().unwrap_or_else(|| "127.0.0.1:8080".into());

    // A client waits for each response: give up earlier than with Kafka's defaults.
    let config = Config::builder()
        .bootstrap_servers(bootstrap_servers)
        .set("max.block.ms", 5_000)
        .set("request.timeout.ms", 5_000)
        .set("delivery.timeout.ms", 20_000)
        .build()?;

    // One producer for all workers: its clones share its batches. It has a thread of its own, for a
    // worker's arbiter ends before the producer can be closed.
    let producer = Producer::start(config)?;
    let data = web::Data::new(producer.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .service(produce)
            .service(figures)
    })
    // A response may take this long.
    .shutdown_timeout(25)
    .bind(&listen_on)?;
    println!("listening on {listen_on}");
    server.run().await?;

    // No request is left, so no record is left to deliver either.
    let outcomes = producer.close(Duration::from_secs(5)).await?;
    println!("closed: {outcomes}");
    Ok(())
}
