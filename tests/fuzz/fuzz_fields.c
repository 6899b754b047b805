/*
 * A header section, as any bytes: a line each, the name up to the first colon. What passes is
 * framed in one way only, and its preconditions can be decided.
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

/* False once a list was refused: then nothing is decided. */
static bool take(struct wire *wire, struct precondition *precondition, struct span name,
                 struct span value)
{
    enum wire_field field = wire_field(wire, name, value);

    if (field == WIRE_IF_MATCH) {
        return precondition_if_match(precondition, value) == PROBLEM_NONE;
    }
    if (field == WIRE_IF_NONE_MATCH) {
        return precondition_if_none_match(precondition, value) == PROBLEM_NONE;
    }
    if (field == WIRE_IF_MODIFIED_SINCE) {
        check_date(value);
        precondition_modified_since(precondition, value, NOW_S);
    }
    return true;
}

static void check_framing(const struct wire *wire)
{
    const struct wire_value *length = &wire->fields[WIRE_CONTENT_LENGTH];
    const struct wire_value *coding = &wire->fields[WIRE_TRANSFER_ENCODING];

    assert(length->count + coding->count <= 1);
    assert(coding->count == 0 || span_is_nocase(coding->first, "chunked"));
    assert(wire->fields[WIRE_HOST].count == 1);
    assert(wire->bad_field == NULL);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct wire_policy policy = {.target_bytes_max = 8192, .header_bytes_max = 1 << 20};
    const struct wire_line line = {.method = {"PUT", 3}, .target = {"/kv/a", 5}};
    const char *at = (const char *)data;
    const char *end = at + size;
    struct precondition precondition;
    struct wire wire;
    bool decidable = true;

    wire_init(&wire);
    precondition_init(&precondition);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *line_end = newline == NULL ? end : newline;
        const char *colon = memchr(at, ':', (size_t)(line_end - at));
        const char *name_end = colon == NULL ? line_end : colon;
        const char *value = colon == NULL ? line_end : colon + 1;

        decidable &= take(&wire, &precondition, span_of(at, (size_t)(name_end - at)),
                          span_of(value, (size_t)(line_end - value)));
        at = line_end + 1;
    }
    if (wire_check(&wire, &line, &policy).problem == PROBLEM_NONE) {
        check_framing(&wire);
    }
    if (decidable) {
        check_decision(&precondition);
    }
    precondition_release(&precondition);
    return 0;
}
