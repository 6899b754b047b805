/*
 * A header section, as any bytes. The first line is the request's: method, target, version, words
 * for what only libmicrohttpd can tell (`gap`, `cut`) and for the listener's policy (`local`). Then
 * a field a line: the name up to the first colon. What passes is framed in one way only, and its
 * preconditions can be decided.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "api/httpdate.h"
#include "api/precondition.h"
#include "api/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_S = 1795000000 };

/* What was read as a date is the same moment again in the preferred form. */
static void check_date(struct span text)
{
    char again[HTTPDATE_SIZE];
    int64_t second;
    int64_t same;

    if (httpdate_parse(text.at, text.len, NOW_S, &second)) {
        httpdate_format(second, again);
        assert(httpdate_parse(again, strlen(again), NOW_S, &same));
        assert(same == second || strcmp(again, "Fri, 31 Dec 9999 23:59:59 GMT") == 0);
    }
}

/* What was read as one of our tags has that text, and no other. */
static void check_tag(struct span text)
{
    struct span rest = text;
    char again[ETAG_SIZE];
    struct etag etag;

    if (!etag_take(&rest, &etag)) {
        assert(rest.at == text.at && rest.len == text.len);
    } else if (etag.ours) {
        size_t len = etag_format(etag.version, again);
        struct span taken = span_of(text.at + (etag.weak ? 2 : 0), len);

        assert(rest.at == taken.at + len && span_is(taken, again));
    }
}

/* False once a list was refused: then nothing is decided. */
static bool take(struct wire *wire, struct precondition *precondition, struct span name,
                 struct span value)
{
    enum wire_field field = wire_field(wire, name, value);

    if (field == WIRE_IF_MATCH) {
        check_tag(value);
        return precondition_if_match(precondition, value) == PROBLEM_NONE;
    }
    if (field == WIRE_IF_NONE_MATCH) {
        return precondition_if_none_match(precondition, value) == PROBLEM_NONE;
    }
    if (field == WIRE_IF_MODIFIED_SINCE) {
        check_date(value);
        precondition_modified_since(precondition, value, NOW_S);
    }
    if (field == WIRE_IF_UNMODIFIED_SINCE) {
        precondition_unmodified_since(precondition, value, NOW_S);
    }
    return true;
}

static void check_framing(const struct wire *wire, const struct wire_line *line)
{
    const struct wire_value *length = &wire->fields[WIRE_CONTENT_LENGTH];
    const struct wire_value *coding = &wire->fields[WIRE_TRANSFER_ENCODING];

    assert(length->count + coding->count <= 1);
    assert(coding->count == 0 || span_is_nocase(coding->first, "chunked"));
    assert(wire->fields[WIRE_HOST].count == 1 || line->http_1_0);
    assert(wire->bad_field == NULL && !line->section_gap && !line->target_cut);
}

static void check_decision(const struct precondition *precondition)
{
    const struct store_current here = {.exists = true, .version = {0xAA, 5}, .modified_ms = 1000};
    const struct store_current absent = {.exists = false};

    for (int method = PRECONDITION_READ; method <= PRECONDITION_WRITE_EXISTING; method++) {
        enum precondition_verdict verdict =
            precondition_decide(precondition, (enum precondition_method)method, &here);

        assert(verdict != PRECONDITION_NOT_MODIFIED || method == PRECONDITION_READ);
        assert(verdict == PRECONDITION_PROCEED || precondition_any(precondition));
        verdict = precondition_decide(precondition, (enum precondition_method)method, &absent);
        assert(verdict == PRECONDITION_PROCEED ||
               (method == PRECONDITION_WRITE && precondition->if_match.present));
    }
}

/* Takes what stands before the first `end` off the text, and that. */
static struct span take_until(struct span *text, char end)
{
    const char *at = text->len == 0 ? NULL : memchr(text->at, end, text->len);
    struct span taken = span_of(text->at, at == NULL ? text->len : (size_t)(at - text->at));
    size_t used = taken.len + (at == NULL ? 0 : 1);

    *text = span_of(text->at + used, text->len - used);
    return taken;
}

static struct wire_line take_request_line(struct span *text, struct wire_policy *policy)
{
    struct span words = take_until(text, '\n');
    struct wire_line line = {.method = take_until(&words, ' '), .target = take_until(&words, ' ')};

    while (words.len > 0) {
        struct span word = take_until(&words, ' ');

        line.http_1_0 |= span_is(word, "HTTP/1.0");
        line.section_gap |= span_is(word, "gap");
        line.target_cut |= span_is(word, "cut");
        policy->local_hosts_only |= span_is(word, "local");
    }
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const host_names[] = {"db.example", NULL};
    struct wire_policy policy = {
        .target_bytes_max = 256, .header_bytes_max = 1024, .host_names = host_names};
    struct span text = {(const char *)data, size};
    struct wire_line line = take_request_line(&text, &policy);
    struct precondition precondition;
    struct wire_refusal refusal;
    struct wire wire;
    bool decidable = true;

    wire_init(&wire);
    precondition_init(&precondition);
    while (text.len > 0) {
        struct span value = take_until(&text, '\n');
        struct span name = take_until(&value, ':');

        decidable &= take(&wire, &precondition, name, value);
    }
    refusal = wire_check(&wire, &line, &policy);
    if (refusal.problem == PROBLEM_NONE) {
        check_framing(&wire, &line);
    } else {
        assert(problem_kind(refusal.problem)->status >= 400);
    }
    if (decidable) {
        check_decision(&precondition);
    }
    precondition_release(&precondition);
    return 0;
}
