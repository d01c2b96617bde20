//! The service itself.

use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, post, web};
use forebay::{Config, ConfigError, Producer, Record, SendError};
use serde_json::json;

/// Where orders go.
pub const TOPIC: &str = "orders";

/// A producer with a spool, which one process has at a time.
pub fn config(servers: &str, spool: &str) -> Result<Config, ConfigError> {
    Config::builder()
        .bootstrap_servers(servers)
        .set("forebay.spool.dir", spool)
        // A client waits for each answer.
        .set("max.block.ms", 5_000)
        .build()
}

/// Serves until SIGINT or SIGTERM.
pub fn serve(producer: Producer, listener: TcpListener) -> std::io::Result<Server> {
    let producer = web::Data::new(producer);
    let app = move || App::new().app_data(producer.clone()).service(order);
    Ok(HttpServer::new(app).workers(2).listen(listener)?.run())
}

#[post("/orders")]
async fn order(producer: web::Data<Producer>, body: web::Bytes) -> HttpResponse {
    // Nobody waits for its outcome: the spool has it, whatever becomes of this process.
    match producer.send(Record::to(TOPIC).value(body)).await {
        Ok(_) => HttpResponse::Accepted().finish(),
        Err(refused) => {
            let why = json!({ "error": refused.to_string() });
            let mut answer = match refused {
                SendError::InDoubt { .. } => HttpResponse::GatewayTimeout(),
                SendError::NoSpace { .. }
                | SendError::NoMemory { .. }
                | SendError::TopicUnknown { .. }
                | SendError::Closed => HttpResponse::ServiceUnavailable(),
                _ => HttpResponse::BadRequest(),
            };
            answer.json(why)
        }
    }
}
