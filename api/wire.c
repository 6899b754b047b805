#include "api/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#define NAME(field, name, guarded) [field] = {name, sizeof(name) - 1, guarded},
static const struct {
    const char *name;
    size_t len;
    bool guarded;
} names[WIRE_FIELD_COUNT] = {WIRE_TABLE(NAME)};
#undef NAME

void wire_init(struct wire *wire)
{
    memset(wire, 0, sizeof(*wire));
}

static bool is_tchar(char c)
{
    static const bool table[256] = {
        ['!'] = true,         ['#'] = true,         ['$'] = true, ['%'] = true,
        ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true,
        ['-'] = true,         ['.'] = true,         ['^'] = true, ['_'] = true,
        ['`'] = true,         ['|'] = true,         ['~'] = true, ['0' ... '9'] = true,
        ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
    };

    return table[(unsigned char)c];
}

static bool is_token(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_tchar(text.at[i])) {
            return false;
        }
    }
    return text.len > 0;
}

static struct span trimmed(struct span text)
{
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text = span_of(text.at + 1, text.len - 1);
    }
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

enum wire_field wire_field(struct wire *wire, struct span name, struct span value)
{
    wire->header_bytes += name.len + value.len + 4; /* ": " and the end of the line */
    if (!is_token(name)) {
        wire->bad_field = "Send header fields whose names are tokens, on one line each.";
        return WIRE_OTHER;
    }
    /* Other parsers end the line there, and read what follows as another field. */
    if (value.len > 0 && memchr(value.at, '\r', value.len) != NULL) {
        wire->bad_field = "Send no CR but at the end of a line.";
    }
    for (int i = 0; i < WIRE_FIELD_COUNT; i++) {
        struct wire_value *field = &wire->fields[i];

        if ((names[i].name[0] | 0x20) != (name.at[0] | 0x20) || name.len < names[i].len ||
            strncasecmp(names[i].name, name.at, names[i].len) != 0) {
            continue;
        }
        if (name.len == names[i].len) {
            if (field->count++ == 0) {
                field->first = i == WIRE_TRANSFER_ENCODING ? value : trimmed(value);
            }
            return (enum wire_field)i;
        }
        if (names[i].guarded) {
            wire->bad_field = "Send no header field whose name begins like one that matters here, "
                              "and none that is folded over two lines.";
        }
    }
    return WIRE_OTHER;
}

/* A "host[:port]" without its port; brackets of an IPv6 address stay. */
static struct span host_of(struct span authority)
{
    const char *bracket = NULL;
    const char *colon;

    if (authority.len > 0 && authority.at[0] == '[') {
        bracket = memchr(authority.at, ']', authority.len);
    }
    if (bracket != NULL) {
        return span_of(authority.at, (size_t)(bracket + 1 - authority.at));
    }
    colon = memchr(authority.at, ':', authority.len);
    return colon == NULL ? authority : span_of(authority.at, (size_t)(colon - authority.at));
}

static bool port_is_number(struct span authority, struct span host)
{
    const char *at = authority.at + host.len;
    size_t left = authority.len - host.len;

    if (left == 0) {
        return true;
    }
    for (size_t i = 1; i < left; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
    }
    return at[0] == ':';
}

static bool is_loopback_address(struct span host)
{
    char text[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    bool brackets = host.len >= 2 && host.at[0] == '[';

    if (brackets) {
        host = span_of(host.at + 1, host.len - 2);
    }
    if (host.len >= sizeof(text)) {
        return false;
    }
    memcpy(text, host.at, host.len);
    text[host.len] = '\0';
    if (!brackets) {
        return inet_pton(AF_INET, text, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1) {
        return false;
    }
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

static bool is_local_host(struct span authority, const char *const *host_names)
{
    struct span host = host_of(authority);

    if (!port_is_number(authority, host)) {
        return false;
    }
    if (span_is_nocase(host, "localhost") || is_loopback_address(host)) {
        return true;
    }
    for (; host_names != NULL && *host_names != NULL; host_names++) {
        if (span_is_nocase(host, *host_names)) {
            return true;
        }
    }
    return false;
}

/* "host[:port]" of one scheme without the port that goes without saying. */
static struct span without_default_port(struct span authority, bool https)
{
    const char *port = https ? ":443" : ":80";
    size_t len = strlen(port);

    if (authority.len >= len && memcmp(authority.at + authority.len - len, port, len) == 0) {
        authority.len -= len;
    }
    return authority;
}

/* Our own origin is the one that the request itself went to. Behind a proxy that speaks TLS
 * the scheme differs from ours, so only host and port are compared. */
static bool is_own_origin(const struct wire_value *origin, struct span authority)
{
    struct span rest = origin->first;
    bool https = rest.len > 8 && strncasecmp(rest.at, "https://", 8) == 0;
    bool http = rest.len > 7 && strncasecmp(rest.at, "http://", 7) == 0;
    size_t scheme_len = https ? 8 : 7;

    if (origin->count != 1 || (!http && !https) || authority.at == NULL || authority.len == 0) {
        return false;
    }
    rest = without_default_port(span_of(rest.at + scheme_len, rest.len - scheme_len), https);
    authority = without_default_port(authority, https);
    return rest.len == authority.len && strncasecmp(rest.at, authority.at, rest.len) == 0;
}

static struct wire_refusal refuse(enum problem problem, enum wire_field field, const char *detail)
{
    return (struct wire_refusal){
        .problem = problem,
        .detail = detail,
        .field = field == WIRE_OTHER ? NULL : names[field].name,
    };
}

static struct wire_refusal refuse_and_close(enum wire_field field, const char *detail)
{
    struct wire_refusal refusal = refuse(PROBLEM_MALFORMED_REQUEST, field, detail);

    refusal.close = true;
    return refusal;
}

static const struct wire_refusal pass = {.problem = PROBLEM_NONE};

static struct wire_refusal check_target(const struct wire_line *line)
{
    if (line->target_cut) {
        return refuse_and_close(WIRE_OTHER, "Write a zero byte in the target as %00.");
    }
    for (size_t i = 0; i < line->target.len; i++) {
        if (line->target.at[i] < 0x21 || line->target.at[i] > 0x7E) {
            return refuse_and_close(WIRE_OTHER, "Percent-encode all bytes of the target that are "
                                                "not printable ASCII, and spaces.");
        }
    }
    return pass;
}

/* Where does the message end? Each rule here is one way in which two parsers could differ. */
static struct wire_refusal check_framing(const struct wire *wire, const struct wire_line *line)
{
    const struct wire_value *length = &wire->fields[WIRE_CONTENT_LENGTH];
    const struct wire_value *coding = &wire->fields[WIRE_TRANSFER_ENCODING];

    if (line->section_gap) {
        return refuse_and_close(WIRE_OTHER, "End each header field, and the section, with CR LF; "
                                            "fold no lines and send no zero bytes.");
    }
    if (wire->bad_field != NULL) {
        return refuse_and_close(WIRE_OTHER, wire->bad_field);
    }
    if (length->count > 1) {
        return refuse_and_close(WIRE_CONTENT_LENGTH, "Send Content-Length once.");
    }
    if (length->count > 0 && coding->count > 0) {
        return refuse_and_close(WIRE_CONTENT_LENGTH,
                                "Send either Content-Length or Transfer-Encoding.");
    }
    for (size_t i = 0; i < length->first.len; i++) {
        if (length->first.at[i] < '0' || length->first.at[i] > '9') {
            return refuse_and_close(WIRE_CONTENT_LENGTH, "Send Content-Length as digits only.");
        }
    }
    if (coding->count > 0 && line->http_1_0) {
        return refuse_and_close(WIRE_TRANSFER_ENCODING,
                                "Send Content-Length: HTTP/1.0 has no Transfer-Encoding.");
    }
    /* Compared with spaces and all, as libmicrohttpd does: otherwise it reads until the end. */
    if (coding->count > 1 || (coding->count == 1 && !span_is_nocase(coding->first, "chunked"))) {
        return refuse_and_close(WIRE_TRANSFER_ENCODING,
                                "The only Transfer-Encoding understood here is chunked.");
    }
    if (wire->fields[WIRE_HOST].count > 1 ||
        (wire->fields[WIRE_HOST].count == 0 && !line->http_1_0)) {
        return refuse_and_close(WIRE_HOST, "Send Host exactly once.");
    }
    return pass;
}

static bool is_safe(struct span method)
{
    return span_is(method, "GET") || span_is(method, "HEAD") || span_is(method, "OPTIONS");
}

/* An absolute-form target names the host itself, and Host doesn't count (RFC 9112 section 3.2.2).
 */
static struct span effective_authority(const struct wire *wire, const struct wire_line *line)
{
    struct target target;

    if (target_split(line->target, &target) == PROBLEM_NONE && target.authority.at != NULL) {
        return target.authority;
    }
    return wire->fields[WIRE_HOST].first;
}

/* A page on another site may send simple requests, and one whose name was made to point here
 * (DNS rebinding) any request: neither may reach a store without tokens. A request without
 * Host (HTTP/1.0) comes from no browser. */
static struct wire_refusal check_browser(const struct wire *wire, const struct wire_line *line,
                                         const struct wire_policy *policy)
{
    struct span authority = effective_authority(wire, line);
    bool named = authority.at != NULL;

    if (policy->local_hosts_only && named && !is_local_host(authority, policy->host_names)) {
        return refuse(PROBLEM_MISDIRECTED, WIRE_HOST, NULL);
    }
    if (wire_has(wire, WIRE_ORIGIN) && !is_safe(line->method) &&
        !is_own_origin(&wire->fields[WIRE_ORIGIN], authority)) {
        return refuse(PROBLEM_CROSS_SITE, WIRE_ORIGIN, NULL);
    }
    return pass;
}

/* What isn't built must not be dropped silently: a value whose TTL is lost would never expire. */
static struct wire_refusal check_unbuilt(const struct wire *wire, const struct wire_line *line)
{
    static const char no_ttl[] = "Values don't expire in this version: leave the field out.";

    if (wire_has(wire, WIRE_VARVE_TTL)) {
        return refuse(PROBLEM_UNKNOWN_PARAMETER, WIRE_VARVE_TTL, no_ttl);
    }
    if (wire_has(wire, WIRE_X_TTL)) {
        return refuse(PROBLEM_UNKNOWN_PARAMETER, WIRE_X_TTL, no_ttl);
    }
    if (wire_has(wire, WIRE_CONTENT_RANGE) && span_is(line->method, "PUT")) {
        return refuse(PROBLEM_CONTENT_RANGE, WIRE_CONTENT_RANGE, NULL);
    }
    return pass;
}

static struct wire_refusal check_limits(const struct wire *wire, const struct wire_line *line,
                                        const struct wire_policy *policy)
{
    struct wire_refusal refusal = pass;

    if (line->target.len > policy->target_bytes_max) {
        refusal.problem = PROBLEM_TARGET_TOO_LONG;
        refusal.limit = policy->target_bytes_max;
    } else if (wire->header_bytes > policy->header_bytes_max) {
        refusal.problem = PROBLEM_HEADERS_TOO_LARGE;
        refusal.limit = policy->header_bytes_max;
    }
    return refusal;
}

struct wire_refusal wire_check(const struct wire *wire, const struct wire_line *line,
                               const struct wire_policy *policy)
{
    struct wire_refusal refusal = check_target(line);

    if (refusal.problem == PROBLEM_NONE) {
        refusal = check_framing(wire, line);
    }
    if (refusal.problem == PROBLEM_NONE) {
        refusal = check_limits(wire, line, policy);
    }
    if (refusal.problem == PROBLEM_NONE) {
        refusal = check_browser(wire, line, policy);
    }
    if (refusal.problem == PROBLEM_NONE) {
        refusal = check_unbuilt(wire, line);
    }
    return refusal;
}
