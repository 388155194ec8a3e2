//! `redis-rotation`: one Redis user with two passwords at a time, replaced under load; the server dies and comes back.

use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumers;
use super::consumer::Login;
use super::consumer::Server;
use super::database;
use super::database::file_of;
use super::rotate;
use super::wait_until_retired;
use crate::environment::Keeps;
use crate::environment::Redis;
use crate::environment::wait;
use crate::report::Report;
use crate::report::StoryError;
use crate::stories::within;

const ROTATIONS: usize = 12;
const NAME: &str = "cart";
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::stories) async fn tell(report: &mut Report) -> Result<(), StoryError> {
    report.step("starting Redis");
    let server = Redis::start(Keeps::AclFile).await?;
    server.ask("ACL SETUSER cart on ~* +@all").await?;
    server.ask("ACL SAVE").await?;
    let (_held, password) = database::secret_file(&format!("{}\n", Redis::PASSWORD))?;
    let credential = format!(
        "  - name: {NAME}
    source: {{ password: {{}} }}
    set_on: {{ redis: {{ address: \"{}\", user: keeper, password_file: \"{password}\" }} }}
    accounts: [cart]
    overlap: 3s
{}",
        server.address(),
        database::login_file(NAME),
    );
    within(database::settings(&credential, &[]), report, async |environment, report| {
        let file = file_of(environment, NAME);
        let read =
            || Login::read(&file).map_err(|seen| StoryError::Claim { claim: "a login is there".to_owned(), seen });
        report.step(format_args!("four services log in all the time; the password is replaced {ROTATIONS} times"));
        let shared = Arc::new(server);
        let consumers = Consumers::begin(&Server::Redis(Arc::clone(&shared)), vec![file.clone(); 4]);
        for _ in 0..ROTATIONS {
            rotate(environment, NAME).await?;
        }
        let outcomes = consumers.stop().await;
        report.holds("every login succeeded", outcomes.keys().eq(["logged in"]), format_args!("{outcomes:?}"))?;
        let mut server = Arc::try_unwrap(shared).map_err(|_| StoryError::Claim {
            claim: "the services have stopped".to_owned(),
            seen: "one goes on".to_owned(),
        })?;

        let before = read()?;
        rotate(environment, NAME).await?;
        let both = before.to_redis(server.converse().await?).await;
        report.holds("for an overlap the one before gets in as well", both.is_ok(), format_args!("{both:?}"))?;
        wait_until_retired(environment, NAME).await?;
        let over = before.to_redis(server.converse().await?).await;
        report.holds("after it no longer", over.is_err(), format_args!("{over:?}"))?;

        report.step("the server is killed and comes back");
        server.kill()?;
        let refused = environment.agent.run(&["credential", "rotate", NAME]).await;
        report.holds("without it nothing is rotated", refused.is_err(), "")?;
        server.start_again().await?;
        environment.ready().await?;
        let now = read()?.to_redis(server.converse().await?).await;
        report.holds("with it, what is published gets in", now.is_ok(), format_args!("{now:?}"))?;

        report.step("somebody else takes the password away");
        server.ask("ACL SETUSER cart resetpass").await?;
        wait::until("the service to be let in again", PATIENCE, async || match read() {
            Ok(login) => login.to_redis(server.converse().await.map_err(|error| error.to_string())?).await,
            Err(error) => Err(error.to_string()),
        })
        .await?;
        report.holds("the agent sees that, and makes another one", true, "login_refused")
    })
    .await
}
