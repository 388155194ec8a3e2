//! A server for tests: says what it is told to, and remembers what it was asked.

use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::net::TcpListener;

/// What the server answers, and what it was asked.
#[derive(Default)]
struct Script {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Says nothing at all.
    silent: bool,
    asked_with: Vec<Option<String>>,
}

/// A server for tests. Clones share one script.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<Script>>);

impl Server {
    /// For those who serve it in another way.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// Serves it on this path of a port of its own, and says where.
    pub(crate) async fn start(&self, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}{path}")
    }

    /// Says this from now on.
    pub(crate) fn say(&self, status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) {
        let mut script = self.0.lock().unwrap();
        script.status = status;
        script.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        script.body = body.into();
    }

    /// Says nothing at all, or speaks again.
    pub(crate) fn silence(&self, silent: bool) {
        self.0.lock().unwrap().silent = silent;
    }

    /// The `If-None-Match` of each request.
    pub(crate) fn asked_with(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().asked_with.clone()
    }
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let tag = request.headers().get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned());
    let (silent, response) = {
        let mut script = server.0.lock().unwrap();
        script.asked_with.push(tag);
        let mut response = Response::builder().status(StatusCode::from_u16(script.status).unwrap());
        for (name, value) in &script.headers {
            response = response.header(*name, value);
        }
        (script.silent, response.body(Body::from(script.body.clone())).unwrap())
    };
    if silent {
        std::future::pending::<()>().await;
    }
    response
}
