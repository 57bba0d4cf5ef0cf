//! The visitor behind a request.
//!
//! A session exists once something is stored in it, and only under an id that we made: a cookie with an unknown id is
//! the same as none. Nothing is ever stored under an id that a client brought.

use axum::response::Response;
use http::{HeaderMap, header};
use session_store::{Applied, Change, Expect, Session, SessionToken, StoreError};

use crate::cookies::{Cookie, Scheme};
use crate::csrf::{self, Binding};
use crate::problem::Problem;
use crate::state::App;

const USER_ID: &str = "uid";
const EMAIL: &str = "email";
/// Tries to find an unused id; one is enough, as they have 256 random bits.
const ID_ATTEMPTS: usize = 3;

/// Who asks.
#[derive(Debug)]
pub(crate) struct Visitor {
    scheme: Scheme,
    /// With the session's token, if there is a session.
    known: Option<(SessionToken, Session)>,
    /// What the client's nonce cookie says, if it can be ours.
    nonce: Option<String>,
    /// To be set on the response.
    new_cookies: Vec<(Cookie, Option<String>)>,
}

/// Someone who has logged in.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    pub(crate) user_id: i64,
    pub(crate) email: String,
}

impl Visitor {
    /// Loads the session that the cookie names. Fails when the store does.
    pub(crate) async fn load(app: &App, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut visitor = Self::anonymous(headers);
        let Some(token) = Cookie::Session.read(headers).and_then(SessionToken::parse) else {
            return Ok(visitor);
        };
        let id = token.id();
        let session = app.within_session_deadline(app.sessions.load(&id)).await?;
        visitor.known = session.map(|session| (token, session));
        if visitor.known.as_ref().is_some_and(|(_, session)| session.is_touch_due(app.sessions.policy())) {
            // Only the idle time would be shorter without it.
            let _ =
                app.within_session_deadline(app.sessions.apply(&id, Expect::Present, &[Change::Touch])).await;
        }
        Ok(visitor)
    }

    /// The visitor as if there were no session: for pages that work without one when the store is away.
    pub(crate) fn anonymous(headers: &HeaderMap) -> Self {
        Self {
            scheme: Scheme::of(headers),
            known: None,
            nonce: Cookie::FormNonce.read(headers).filter(|text| csrf::is_nonce(text)).map(str::to_owned),
            new_cookies: Vec::new(),
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.known.as_ref().map(|(_, session)| session)
    }

    pub(crate) fn logged_in(&self) -> Option<LoggedIn> {
        let session = self.session()?;
        Some(LoggedIn { user_id: session.get(USER_ID)?.parse().ok()?, email: session.get(EMAIL)?.to_owned() })
    }

    pub(crate) fn must_be_logged_in(&self) -> Result<LoggedIn, Problem> {
        self.logged_in().ok_or_else(Problem::not_logged_in)
    }

    /// Stores something, in a new session if there is none.
    pub(crate) async fn store(&mut self, app: &App, changes: &[Change]) -> Result<(), Problem> {
        match &mut self.known {
            None => self.create(app, changes).await,
            Some((token, session)) => {
                let id = token.id();
                *session = changed(
                    app.within_session_deadline(app.sessions.apply(&id, Expect::Present, changes)).await?,
                )?;
                Ok(())
            }
        }
    }

    /// Makes the visitor a user under a new id; in the same step the old id is dead. What an anonymous visitor had
    /// comes along, what another user had does not.
    pub(crate) async fn log_in(&mut self, app: &App, user_id: i64, email: &str) -> Result<(), Problem> {
        let changes = [Change::set(USER_ID, user_id.to_string()), Change::set(EMAIL, email)];
        let someone_else = self
            .session()
            .is_some_and(|session| session.get(USER_ID).is_some_and(|other| other != user_id.to_string()));
        if someone_else {
            self.destroy(app).await?;
        }
        match self.known {
            Some(_) => self.rotate(app, changes.into()).await,
            None => self.create(app, &changes).await,
        }
    }

    /// Moves the session to a new id, together with some changes.
    pub(crate) async fn rotate(&mut self, app: &App, mut changes: Vec<Change>) -> Result<(), Problem> {
        let Some((token, _)) = &self.known else { return Err(Problem::not_logged_in()) };
        let (old, new) = (token.id(), SessionToken::generate());
        changes.extend([Change::Rotate { to: new.id() }, Change::Renew]);
        let session =
            changed(app.within_session_deadline(app.sessions.apply(&old, Expect::Present, &changes)).await?)?;
        self.adopt(new, session);
        Ok(())
    }

    /// Ends the session, if there is one.
    pub(crate) async fn destroy(&mut self, app: &App) -> Result<(), Problem> {
        if let Some((token, _)) = &self.known {
            let id = token.id();
            app.within_session_deadline(app.sessions.apply(&id, Expect::Present, &[Change::Destroy])).await?;
            self.known = None;
        }
        self.cookie(Cookie::Session, None);
        Ok(())
    }

    async fn create(&mut self, app: &App, changes: &[Change]) -> Result<(), Problem> {
        for _ in 0..ID_ATTEMPTS {
            let token = SessionToken::generate();
            let id = token.id();
            let applied =
                app.within_session_deadline(app.sessions.apply(&id, Expect::Absent, changes)).await?;
            if let Applied::Applied(session) = applied {
                self.adopt(token, session);
                return Ok(());
            }
        }
        Err(Problem::internal("every new session id was in use"))
    }

    fn adopt(&mut self, token: SessionToken, session: Session) {
        self.cookie(Cookie::Session, Some(token.expose()));
        self.known = Some((token, session));
    }

    /// The token for a form on the page that answers this request; sets the nonce cookie where one is needed.
    pub(crate) fn form_token(&mut self, app: &App) -> String {
        let binding = match (&self.known, &self.nonce) {
            (Some((token, _)), _) => Binding::Session(token.id()),
            (None, Some(nonce)) => Binding::Nonce(nonce.clone()),
            (None, None) => {
                let nonce = csrf::new_nonce();
                self.nonce = Some(nonce.clone());
                self.cookie(Cookie::FormNonce, Some(nonce.clone()));
                Binding::Nonce(nonce)
            }
        };
        csrf::token(&app.signing_keys, &binding)
    }

    /// Refuses a form that was not made for this visitor.
    pub(crate) fn check_form(&self, app: &App, token: &str) -> Result<(), Problem> {
        let binding = match (&self.known, &self.nonce) {
            (Some((token, _)), _) => Some(Binding::Session(token.id())),
            (None, nonce) => nonce.clone().map(Binding::Nonce),
        };
        match binding.is_some_and(|binding| csrf::verify(&app.signing_keys, &binding, token)) {
            true => Ok(()),
            false => Err(Problem::new(
                http::StatusCode::FORBIDDEN,
                "form-expired",
                "this form is out of date, or cookies are off; go back, reload the page and send it again",
            )),
        }
    }

    fn cookie(&mut self, cookie: Cookie, value: Option<String>) {
        self.new_cookies.retain(|(other, _)| *other != cookie);
        self.new_cookies.push((cookie, value));
    }

    /// Writes the cookies that changed.
    pub(crate) fn finish(self, mut response: Response) -> Response {
        for (cookie, value) in self.new_cookies {
            let set = match value {
                Some(value) => cookie.set(&value, self.scheme),
                None => cookie.clear(self.scheme),
            };
            response.headers_mut().append(header::SET_COOKIE, set);
        }
        response
    }
}

fn changed(applied: Applied) -> Result<Session, Problem> {
    applied.session().ok_or_else(|| {
        Problem::new(
            http::StatusCode::CONFLICT,
            "session-changed",
            "the session ended or got a new id while this request was on its way; try again",
        )
    })
}

/// What a client hears of the store's errors.
pub(crate) fn problem(error: &StoreError) -> Problem {
    match error {
        StoreError::Limit { .. } => {
            Problem::invalid("there is no room for this in the session; remove something first")
        }
        StoreError::Unavailable { .. } | StoreError::Full { .. } => Problem::unavailable(
            "sessions-away",
            "sessions cannot be reached; nothing else is affected, try again",
        )
        .because(error.to_string()),
        StoreError::Invalid { .. } | StoreError::Damaged { .. } => Problem::internal(error.to_string()),
    }
}
