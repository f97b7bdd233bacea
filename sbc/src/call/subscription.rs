//! What whoever asked for a transfer hears of it: the NOTIFYs of the subscription that a REFER begins (RFC 3515
//! 2.4, RFC 6665 4.2.2).
//!
//! One at a time: the next leaves when the one before it was answered. Two on their way together may pass each
//! other, and who hears the later one first must refuse the other (RFC 3261 12.2.2). What the transfer comes to
//! is its own business.

use super::{Call, Phase, send};
use crate::core::{Core, Turn};
use crate::dialog::Dialog;
use crate::message::{Method, Name};
use base::{Key, plain};

/// The most that waits to be told: of more steps on the way, the oldest are left out.
const MOST: usize = 4;

/// A subscription to how a transfer goes.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// The leg that asked.
    leg: u8,
    /// CSeq number of the REFER: it tells subscriptions apart (RFC 3515 2.4.6).
    refer: u32,
    /// The dialog that the REFER began, where it was sent beside that of its leg (RFC 4538).
    beside: Option<Box<Dialog>>,
    /// The NOTIFY that was not answered yet.
    under_way: Option<Key>,
    /// What is told next.
    news: Vec<News>,
    /// Nothing is told any more behind that: it was the last, or nobody listens.
    is_ended: bool,
}

plain!(struct Subscription { leg, refer, beside, under_way, news, is_ended });

/// How a transfer stands.
#[derive(Clone, Debug)]
struct News {
    status: u16,
    reason: Box<[u8]>,
    is_last: bool,
}

plain!(struct News { status, reason, is_last });

impl Subscription {
    pub(crate) fn new(leg: u8, refer: u32, beside: Option<Box<Dialog>>) -> Subscription {
        Subscription { leg, refer, beside, under_way: None, news: Vec::new(), is_ended: false }
    }

    fn end(&mut self) {
        self.news.clear();
        self.is_ended = true;
    }

    /// Whether there is more to tell than is being told.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }
}

/// Tells the subscriber, if there is one, how its transfer goes; `goes_on`: this is not the end.
pub(super) fn tell(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (status, reason): (u16, &[u8]),
    goes_on: bool,
) {
    let Some(subscription) = call.subscription.as_mut().filter(|s| !s.is_ended) else { return };
    if subscription.news.len() == MOST {
        subscription.news.remove(0);
    }
    subscription.news.push(News { status, reason: reason.into(), is_last: !goes_on });
    if subscription.under_way.is_none() {
        next(call, core, turn);
    }
}

/// A NOTIFY was answered, or never will be. The leg that has now heard everything.
pub(super) fn concluded(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (key, is_heard): (Key, bool),
) -> Option<u8> {
    let subscription = call.subscription.as_mut().filter(|s| s.under_way == Some(key))?;
    subscription.under_way = None;
    let leg = subscription.leg;
    if !is_heard {
        // RFC 6665 4.2.2: nobody is subscribed any more.
        subscription.end();
    }
    next(call, core, turn);
    is_over(call).then(|| {
        call.subscription = None;
        leg
    })
}

/// Whether nothing is told any more: nobody listens, or all was told and answered.
pub(super) fn is_over(call: &Call) -> bool {
    call.subscription.as_ref().is_none_or(|s| s.is_ended && s.under_way.is_none())
}

/// Sends what is to be told next.
fn next(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let Some(subscription) = &mut call.subscription else { return };
    let (leg, refer) = (subscription.leg, subscription.refer);
    if subscription.news.is_empty() {
        return;
    }
    let News { status, reason, is_last } = subscription.news.remove(0);
    let mut beside = subscription.beside.take();
    let is_there = call.leg(leg).is_some_and(|leg| leg.phase == Phase::Confirmed);
    let mut sent = None;
    if is_there || beside.is_some() {
        exchange_dialogs(call, leg, &mut beside);
        sent = send::request(call, core, turn, leg, Method::Notify, |print| {
            print.line(Name::Event, |v| {
                v.bytes(b"refer;id=").u32(refer);
            });
            let state: &[u8] =
                if is_last { b"terminated;reason=noresource" } else { b"active;expires=180" };
            print.header(Name::SubscriptionState, state);
            let fragment = [format!("SIP/2.0 {status} ").as_bytes(), &reason, b"\r\n"].concat();
            print.body(Some(b"message/sipfrag;version=2.0"), &fragment);
        });
        exchange_dialogs(call, leg, &mut beside);
    }
    if let Some(subscription) = &mut call.subscription {
        (subscription.beside, subscription.under_way) = (beside, sent);
        if is_last || sent.is_none() {
            subscription.end();
        }
    }
}

/// What is sent next on this leg goes in the other dialog, if there is one.
fn exchange_dialogs(call: &mut Call, place: u8, other: &mut Option<Box<Dialog>>) {
    if let (Some(leg), Some(other)) = (call.leg(place), other) {
        core::mem::swap(&mut leg.dialog, other);
    }
}
