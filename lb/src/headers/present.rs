//! Which of the fields that end or change on the way a message has: found in one pass over its names. Most messages have
//! none of them, and looking up each costs more than all else that is done to headers.

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::{
    HTTP2_SETTINGS, KEEP_ALIVE, PROXY_CONNECTION, TRACEPARENT, X_FORWARDED_FOR, X_FORWARDED_HOST,
    X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID,
};

/// A field that ends or changes on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
    Expect,
    ProxyAuthorization,
    ProxyAuthenticate,
    Forwarded,
    RealIp,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    RequestId,
    TraceParent,
    Http2Settings,
}

impl Field {
    fn of(name: &HeaderName) -> Option<Self> {
        Some(match name.as_str() {
            "connection" => Self::Connection,
            "keep-alive" => Self::KeepAlive,
            "proxy-connection" => Self::ProxyConnection,
            "te" => Self::Te,
            "transfer-encoding" => Self::TransferEncoding,
            "upgrade" => Self::Upgrade,
            "expect" => Self::Expect,
            "proxy-authorization" => Self::ProxyAuthorization,
            "proxy-authenticate" => Self::ProxyAuthenticate,
            "forwarded" => Self::Forwarded,
            "x-real-ip" => Self::RealIp,
            "x-forwarded-for" => Self::ForwardedFor,
            "x-forwarded-proto" => Self::ForwardedProto,
            "x-forwarded-host" => Self::ForwardedHost,
            "x-request-id" => Self::RequestId,
            "traceparent" => Self::TraceParent,
            "http2-settings" => Self::Http2Settings,
            _ => return None,
        })
    }

    fn name(self) -> HeaderName {
        match self {
            Self::Connection => CONNECTION,
            Self::KeepAlive => KEEP_ALIVE,
            Self::ProxyConnection => PROXY_CONNECTION,
            Self::Te => TE,
            Self::TransferEncoding => TRANSFER_ENCODING,
            Self::Upgrade => UPGRADE,
            Self::Expect => EXPECT,
            Self::ProxyAuthorization => PROXY_AUTHORIZATION,
            Self::ProxyAuthenticate => PROXY_AUTHENTICATE,
            Self::Forwarded => FORWARDED,
            Self::RealIp => X_REAL_IP,
            Self::ForwardedFor => X_FORWARDED_FOR,
            Self::ForwardedProto => X_FORWARDED_PROTO,
            Self::ForwardedHost => X_FORWARDED_HOST,
            Self::RequestId => X_REQUEST_ID,
            Self::TraceParent => TRACEPARENT,
            Self::Http2Settings => HTTP2_SETTINGS,
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The set of those that a message had when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present(u32);

impl Present {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().filter_map(Field::of).fold(0, |bits, field| bits | field.bit()))
    }

    pub(super) fn has(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }

    /// Removes those of `fields` that are there.
    pub(super) fn remove(self, headers: &mut HeaderMap, fields: &[Field]) {
        for field in fields.iter().filter(|field| self.has(**field)) {
            headers.remove(field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_removed_when_asked() {
        let names = "connection keep-alive proxy-connection te transfer-encoding upgrade expect proxy-authorization \
             proxy-authenticate forwarded x-real-ip x-forwarded-for x-forwarded-proto x-forwarded-host x-request-id traceparent http2-settings";
        let mut all = 0;
        for name in names.split_whitespace().map(HeaderName::from_static) {
            let field = Field::of(&name).expect("a known name");
            assert_eq!(field.name(), name);
            let mut headers = HeaderMap::from_iter([(name, HeaderValue::from_static("x"))]);
            let present = Present::of(&headers);
            assert!(present.has(field) && present.0.count_ones() == 1 && all & present.0 == 0);
            all |= present.0;
            present.remove(&mut headers, &[field]);
            assert!(headers.is_empty());
        }
        assert_eq!(all.count_ones(), Field::Http2Settings as u32 + 1);
        assert_eq!(Field::of(&http::header::HOST), None);
    }
}
