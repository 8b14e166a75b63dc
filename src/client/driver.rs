//! The writer's task: opens calls, sends what the session allows, reads acks, and opens the next call when one breaks.
//!
//! All decisions about batches are [`Session`]'s; here are the connection, the clock and the caller's channel. The task
//! ends when the session is finished, when it fails for good, or when the writer is dropped (its future is dropped then,
//! which cancels the call).

use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::backoff;
use super::channel::Client;
use super::error::ClientError;
use super::session::{Event, Part, Receipt, Session, Violation};
use super::wire::{Outgoing, WRITE_PATH, WriteCodec};
use super::writer::{Failure, Observer};
use crate::limits::{CLIENT_TRAILER_TIMEOUT, MESSAGE_MAX_BYTES, OPEN_TIMEOUT};
use crate::proto::v1::write_request::Message as Ask;
use crate::proto::v1::write_response::Message as Answer;
use crate::proto::v1::{self, WriteRequest, WriteResponse};
use crate::telemetry::spans;

/// What the caller wants.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this.
    Part(Part),
    /// Say when all is final.
    Flush(oneshot::Sender<Receipt>),
    /// The same, and end.
    Finish(oneshot::Sender<Receipt>),
}

/// A barrier that the caller waits for.
#[derive(Debug)]
struct Barrier {
    reply: oneshot::Sender<Receipt>,
    finish: bool,
}

/// An open call.
struct Call {
    requests: mpsc::Sender<Outgoing>,
    responses: Streaming<WriteResponse>,
    /// Set by Drain: no more batches on this call, and broken after this.
    drain_until: Option<Instant>,
    flush_sent: bool,
    finish_sent: bool,
}

/// How a call ended.
enum End {
    /// The caller's Finish is answered.
    Finished,
    /// The caller is gone.
    Abandoned,
    /// The gateway asked for it.
    Drained,
    /// It broke; another may do.
    Broken(ClientError),
}

/// What the gateway sent: a message, the end, or why the call broke.
type Received = Result<Option<WriteResponse>, tonic::Status>;

/// What happened next on a call.
enum Step {
    /// The gateway said something.
    Answer(Received),
    /// There is room for a message; false: the call takes none any more.
    CanSend(bool),
    /// The caller said something; `None`: the writer is gone.
    Command(Option<Command>),
}

/// For how long a writer goes on trying.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// To open its first call.
    pub(crate) open_for: Duration,
    /// Without any ack.
    pub(crate) retry_for: Duration,
    /// To send rows again that were not written in time.
    pub(crate) resend_for: Duration,
}

/// See the module.
pub(crate) struct Driver {
    client: Client,
    open: v1::Open,
    commands: mpsc::Receiver<Command>,
    observer: Observer,
    failure: Failure,
    patience: Patience,
    session: Session,
    barrier: Option<Barrier>,
    /// Since when nothing has gone forward, and how often was tried.
    trouble: Option<(Instant, u32)>,
}

impl Driver {
    pub(crate) fn new(
        client: Client,
        open: v1::Open,
        commands: mpsc::Receiver<Command>,
        observer: Observer,
        failure: Failure,
        patience: Patience,
    ) -> Self {
        let session = Session::new(patience.resend_for);
        Self { client, open, commands, observer, failure, patience, session, barrier: None, trouble: None }
    }

    /// Runs the session to its end. An error that ends it is left in `failure`; dropping `self` then tells the caller.
    pub(crate) async fn run(mut self, opened: oneshot::Sender<v1::Opened>) {
        let failure = self.failure.clone();
        // Dropped after the failure is set: who waits for it asks then.
        let mut opened = Some(opened);
        if let Err(error) = self.run_calls(&mut opened).await {
            failure.set(error);
        }
    }

    async fn run_calls(&mut self, opened: &mut Option<oneshot::Sender<v1::Opened>>) -> Result<(), ClientError> {
        let mut channel = self.client.channel();
        loop {
            let give_up_after = if opened.is_some() { self.patience.open_for } else { self.patience.retry_for };
            let end = match self.begin_call(channel).await {
                Ok((call, answer)) => {
                    if let Some(opened) = opened.take()
                        && opened.send(answer).is_err()
                    {
                        return Ok(());
                    }
                    self.serve(call).await?
                }
                Err(error) if error.is_transient() => End::Broken(error),
                Err(error) => return Err(error),
            };
            match end {
                End::Finished | End::Abandoned => return Ok(()),
                // A gateway that drains whatever call it gets must not be called in a tight loop.
                End::Drained if self.session.call_counts().0 == 0 && !self.session.is_empty() => {
                    let endpoint = self.client.endpoint().to_owned();
                    let message = "it takes no new calls".to_owned();
                    let error = ClientError::Interrupted { endpoint, message, retry_after: None };
                    self.pause(error, give_up_after).await?;
                }
                End::Drained => {}
                End::Broken(error) => self.pause(error, give_up_after).await?,
            }
            if opened.is_none() && !self.wait_for_work().await {
                return Ok(());
            }
            // A new connection may lead to another gateway, or to the new process behind the old address.
            channel = self.client.fresh_channel();
        }
    }

    /// Waits after a failure, or gives up.
    async fn pause(&mut self, error: ClientError, give_up_after: Duration) -> Result<(), ClientError> {
        let now = Instant::now();
        let (since, attempts) = self.trouble.unwrap_or((now, 0));
        let pause = backoff::delay(attempts, fastrand::f64(), error.retry_after());
        if now + pause - since > give_up_after {
            let after = now - since;
            // The first failure of a call that was to be opened says more without "gave up".
            let short = after < Duration::from_secs(1);
            return Err(if short { error } else { ClientError::GaveUp { after, last: Box::new(error) } });
        }
        self.trouble = Some((since, attempts + 1));
        if !self.session.is_empty() || attempts == 0 {
            (self.observer)(Event::Reconnecting { error, pause });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Before another call is opened: with nothing to send there is no need for one. False where the session is over.
    async fn wait_for_work(&mut self) -> bool {
        while self.session.is_empty() {
            if let Some(barrier) = self.barrier.take() {
                let finish = barrier.finish;
                // A caller that no longer waits has dropped the writer.
                if barrier.reply.send(self.session.receipt()).is_err() || finish {
                    return false;
                }
            }
            match self.commands.recv().await {
                Some(command) => self.take(command),
                None => return false,
            }
        }
        true
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Part(part) => self.session.accept(part),
            Command::Flush(reply) => self.barrier = Some(Barrier { reply, finish: false }),
            Command::Finish(reply) => self.barrier = Some(Barrier { reply, finish: true }),
        }
    }

    async fn begin_call(&mut self, channel: Channel) -> Result<(Call, v1::Opened), ClientError> {
        let opening = open_call(&self.client, self.open.clone(), channel);
        let Ok(result) = tokio::time::timeout(OPEN_TIMEOUT, opening).await else {
            let message = format!("no answer to Open within {} s", OPEN_TIMEOUT.as_secs());
            let endpoint = self.client.endpoint().to_owned();
            return Err(ClientError::Interrupted { endpoint, message, retry_after: None });
        };
        let (call, opened) = result?;
        let events = self.session.begin_call(Instant::now());
        self.tell(events);
        if let Some(window) = &opened.window {
            self.session.set_window(window);
        }
        if self.session.is_empty() {
            self.trouble = None;
        }
        Ok((call, opened))
    }

    /// Works on one call until it ends.
    async fn serve(&mut self, mut call: Call) -> Result<End, ClientError> {
        loop {
            let next_is_control = self.control_to_send(&call);
            let may_send_batches = call.drain_until.is_none() && !call.finish_sent;
            let now = Instant::now();
            let wants_to_send = next_is_control.is_some() || (may_send_batches && self.session.can_send(now));
            // What is due by now waits for the window, not for the clock.
            let next_due = self.session.next_due().filter(|due| may_send_batches && *due > now);
            let takes_commands = self.barrier.is_none() && self.session.accepts();
            let drain_until = call.drain_until;
            let step = tokio::select! {
                biased;
                answer = call.responses.message() => Step::Answer(answer),
                permit = call.requests.reserve(), if wants_to_send => Step::CanSend(permit.is_ok()),
                command = self.commands.recv(), if takes_commands => Step::Command(command),
                () = tokio::time::sleep_until(drain_until.unwrap_or_else(Instant::now)), if drain_until.is_some() => {
                    return Ok(End::Drained);
                }
                () = tokio::time::sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => continue,
            };
            match step {
                Step::Answer(answer) => {
                    if let Some(end) = self.received(&mut call, answer).await? {
                        return Ok(end);
                    }
                }
                Step::CanSend(true) => {
                    let message = match next_is_control {
                        Some(message) => {
                            call.flush_sent |= matches!(message, Ask::Flush(_));
                            call.finish_sent |= matches!(message, Ask::Finish(_));
                            Outgoing::Control(Box::new(WriteRequest { message: Some(message) }))
                        }
                        None => match self.session.next_to_send(now) {
                            Some((seq, payload)) => Outgoing::Batch { seq, payload },
                            None => continue,
                        },
                    };
                    // There was room, and nobody else sends. If the call ended meanwhile, its end comes by `responses`.
                    call.requests.try_send(message).unwrap_or_default();
                }
                // The call no longer reads: what it still says, acks among it, comes before why.
                Step::CanSend(false) => loop {
                    let answer = tokio::time::timeout(CLIENT_TRAILER_TIMEOUT, call.responses.message()).await;
                    if let Some(end) = self.received(&mut call, answer.unwrap_or(Ok(None))).await? {
                        return Ok(end);
                    }
                },
                Step::Command(Some(command)) => self.take(command),
                Step::Command(None) => return Ok(End::Abandoned),
            }
        }
    }

    /// Takes what came from the gateway; says how the call ended, if it did.
    async fn received(&mut self, call: &mut Call, answer: Received) -> Result<Option<End>, ClientError> {
        match answer {
            Ok(Some(WriteResponse { message: Some(answer) })) => self.answer(call, answer).await,
            Ok(Some(WriteResponse { message: None })) => Err(protocol("an empty message")),
            Ok(None) => {
                let endpoint = self.client.endpoint().to_owned();
                let message = "it ended before Finished".to_owned();
                Ok(Some(End::Broken(ClientError::Interrupted { endpoint, message, retry_after: None })))
            }
            // It had said that the credential ends. Whether there is a better one is seen when the next call is opened.
            Err(status) if call.drain_until.is_some() && is_credential_refused(&status) => Ok(Some(End::Drained)),
            Err(status) => {
                let error = self.client.error(&status);
                if error.is_transient() { Ok(Some(End::Broken(error))) } else { Err(error) }
            }
        }
    }

    /// The Flush or Finish that is due, if one is.
    fn control_to_send(&self, call: &Call) -> Option<Ask> {
        if call.finish_sent {
            return None;
        }
        let (batches, rows) = self.session.call_counts();
        let finish = Ask::Finish(v1::Finish { batches, rows });
        if call.drain_until.is_some() {
            return (!self.session.has_in_flight()).then_some(finish);
        }
        match &self.barrier {
            Some(barrier) if self.session.all_sent() => match barrier.finish {
                true => Some(finish),
                false => (!call.flush_sent).then_some(Ask::Flush(v1::Flush {})),
            },
            _ => None,
        }
    }

    /// Takes one message of the gateway; says how the call ended, if it did.
    async fn answer(&mut self, call: &mut Call, answer: Answer) -> Result<Option<End>, ClientError> {
        let now = Instant::now();
        match answer {
            Answer::Opened(_) => return Err(protocol("Opened came twice")),
            Answer::Ack(ack) => {
                let events = self.session.on_ack(ack, now)?;
                self.progressed(events);
            }
            Answer::Window(window) => self.session.set_window(&window),
            // Old columns stay valid, and ours do not change within a session.
            Answer::SchemaChanged(_) => {}
            Answer::Drain(drain) => {
                let deadline =
                    drain.deadline.and_then(|deadline| Duration::try_from(deadline).ok()).unwrap_or_default();
                call.drain_until = Some(now + deadline);
                (self.observer)(Event::Draining);
            }
            Answer::Flushed(flushed) => {
                let events = self.session.on_flushed(flushed, now)?;
                self.progressed(events);
                call.flush_sent = false;
                if self.session.has_in_flight() {
                    return Err(protocol("Flushed came before every batch was acked"));
                }
                if !self.session.is_empty() {
                    // Rows are sent again, and the barrier after them.
                    return Ok(None);
                }
                if let Some(barrier) = self.barrier.take()
                    && barrier.reply.send(self.session.receipt()).is_err()
                {
                    return Ok(Some(End::Abandoned));
                }
            }
            Answer::Finished(finished) => {
                if !call.finish_sent {
                    return Err(protocol("Finished came without Finish"));
                }
                let events = self.session.on_finished(finished, now)?;
                self.progressed(events);
                self.read_status(call).await?;
                if !self.session.is_empty() || call.drain_until.is_some() {
                    return Ok(Some(End::Drained));
                }
                if let Some(barrier) = self.barrier.take() {
                    // Nobody waits: the writer was dropped at the last moment, which changes nothing any more.
                    barrier.reply.send(self.session.receipt()).unwrap_or_default();
                }
                return Ok(Some(End::Finished));
            }
        }
        Ok(None)
    }

    /// After Finished: the status, so that the call ends in order and not by a reset.
    async fn read_status(&mut self, call: &mut Call) -> Result<(), ClientError> {
        match tokio::time::timeout(CLIENT_TRAILER_TIMEOUT, call.responses.message()).await {
            Ok(Ok(Some(_))) => Err(protocol("a message came after Finished")),
            Ok(Err(status)) => {
                let error = self.client.error(&status);
                // Everything is acked: a connection that breaks now takes nothing with it.
                if error.is_transient() { Ok(()) } else { Err(error) }
            }
            Ok(Ok(None)) | Err(_) => Ok(()),
        }
    }

    fn progressed(&mut self, events: Vec<Event>) {
        if events.iter().any(|event| matches!(event, Event::Acked(_))) {
            self.trouble = None;
        }
        self.tell(events);
    }

    fn tell(&mut self, events: Vec<Event>) {
        events.into_iter().for_each(&mut self.observer);
    }
}

/// Opens a call and waits for Opened.
async fn open_call(client: &Client, open: v1::Open, channel: Channel) -> Result<(Call, v1::Opened), ClientError> {
    // One message waits here while another is on its way; the window bounds what is not acked, not this.
    let (requests, receiver) = mpsc::channel(1);
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let unavailable = |error: tonic::transport::Error| client.error(&tonic::Status::from_error(Box::new(error)));
    grpc.ready().await.map_err(unavailable)?;
    let first = Outgoing::Control(Box::new(WriteRequest { message: Some(Ask::Open(open)) }));
    // The channel is new and holds one message.
    requests.send(first).await.map_err(|_| protocol("the request stream closed at once"))?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    spans::inject(request.metadata_mut().as_mut());
    client.authorize(&mut request);
    let path = PathAndQuery::from_static(WRITE_PATH);
    let response = grpc.streaming(request, path, WriteCodec).await.map_err(|status| client.error(&status))?;
    let mut responses = response.into_inner();
    match responses.message().await.map_err(|status| client.error(&status))? {
        Some(WriteResponse { message: Some(Answer::Opened(opened)) }) => {
            let call = Call { requests, responses, drain_until: None, flush_sent: false, finish_sent: false };
            Ok((call, opened))
        }
        Some(_) => Err(protocol("the first message was not Opened")),
        None => Err(client.error(&tonic::Status::unavailable("the call ended before Opened"))),
    }
}

fn is_credential_refused(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied)
}

fn protocol(message: &str) -> ClientError {
    ClientError::Protocol { message: message.to_owned() }
}

impl From<Violation> for ClientError {
    fn from(violation: Violation) -> Self {
        Self::Protocol { message: violation.0 }
    }
}

#[cfg(test)]
mod tests;
