/* Conditional requests over HTTP. How conditions are decided is tested in unit/test_precondition.c;
 * here it is whether they reach that decision, and what comes back. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/http/fixture.h"

#define OTHER_TAG "\"0000000000000001-1\""

/* Puts a new value and hands out its tag. */
static void put(struct client *client, const char *path, char tag[64])
{
    struct reply reply = client_put(client, path, "value");
    assert_true(reply.status == 201 || reply.status == 204);
    (void)snprintf(tag, 64, "%s", reply_field(&reply, "ETag"));
    reply_free(&reply);
}

/* One request with one conditional field. */
static struct reply ask(struct client *client, const char *method, const char *path,
                        const char *name, const char *value)
{
    char field[400];
    (void)snprintf(field, sizeof field, "%s: %s", name, value);
    const char *body = method[0] == 'P' ? "other" : NULL;
    return client_send(client, method, path, FIELDS(field), body, body != NULL ? 5 : 0);
}

static void expect(struct client *client, unsigned status, const char *method, const char *path,
                   const char *name, const char *value)
{
    struct reply reply = ask(client, method, path, name, value);
    if (reply.status != status) {
        print_error("%s %s, %s: %s\n", method, path, name, value);
    }
    assert_status(&reply, status);
    reply_free(&reply);
}

static void get_with_the_current_tag_is_304(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], weak[80], list[200];
    put(client, "/kv/cond/304", tag);
    (void)snprintf(weak, sizeof weak, "W/%s", tag);
    (void)snprintf(list, sizeof list, "%s, %s", OTHER_TAG, tag);
    static const char *const methods[] = {"GET", "HEAD"};
    for (size_t i = 0; i < 2; i++) {
        expect(client, 304, methods[i], "/kv/cond/304", "If-None-Match", tag);
        expect(client, 304, methods[i], "/kv/cond/304", "If-None-Match", weak);
        expect(client, 304, methods[i], "/kv/cond/304", "If-None-Match", list);
        expect(client, 304, methods[i], "/kv/cond/304", "If-None-Match", "*");
        expect(client, 200, methods[i], "/kv/cond/304", "If-None-Match", OTHER_TAG);
    }
    struct reply reply = ask(client, "GET", "/kv/cond/304", "If-None-Match", tag);
    assert_int_equal(reply.size, 0);
    assert_field(&reply, "ETag", tag);
    assert_field(&reply, "Cache-Control", "no-cache");
    const char *length = reply_field(&reply, "Content-Length");
    assert_true(length == NULL || strcmp(length, "5") == 0);
    reply_free(&reply);
    /* The connection goes on behind a 304. */
    expect_status(client, 200, "GET", "/kv/cond/304", NULL, NULL);
}

static void get_of_a_missing_key_is_404_whatever_the_condition(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect(client, 404, "GET", "/kv/cond/none", "If-None-Match", "*");
    expect(client, 404, "GET", "/kv/cond/none", "If-Match", "*");
    expect(client, 404, "GET", "/kv/cond/none", "If-Match", OTHER_TAG);
}

static void get_with_another_tag_wanted_is_412(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], weak[80];
    put(client, "/kv/cond/match", tag);
    (void)snprintf(weak, sizeof weak, "W/%s", tag);
    expect(client, 200, "GET", "/kv/cond/match", "If-Match", tag);
    expect(client, 200, "GET", "/kv/cond/match", "If-Match", "*");
    expect(client, 412, "GET", "/kv/cond/match", "If-Match", weak);
    expect(client, 412, "GET", "/kv/cond/match", "If-Match", OTHER_TAG);
}

static void compare_and_set_by_tag(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], next[64];
    put(client, "/kv/cond/cas", tag);
    struct reply reply = ask(client, "PUT", "/kv/cond/cas", "If-Match", tag);
    assert_status(&reply, 204);
    (void)snprintf(next, sizeof next, "%s", reply_field(&reply, "ETag"));
    reply_free(&reply);
    reply = ask(client, "PUT", "/kv/cond/cas", "If-Match", tag);
    assert_problem(&reply, 412, "/problems/precondition-failed");
    assert_field(&reply, "ETag", next);
    assert_non_null(strstr(reply.body, "current_etag"));
    reply_free(&reply);
    expect(client, 412, "DELETE", "/kv/cond/cas", "If-Match", tag);
    expect(client, 200, "GET", "/kv/cond/cas", "If-Match", next);
    expect(client, 204, "DELETE", "/kv/cond/cas", "If-Match", next);
    expect_status(client, 404, "GET", "/kv/cond/cas", NULL, NULL);
}

static void create_only_if_absent(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect(client, 412, "PUT", "/kv/cond/new", "If-Match", "*");
    struct reply reply = ask(client, "PUT", "/kv/cond/new", "If-Match", OTHER_TAG);
    assert_problem(&reply, 412, "/problems/precondition-failed");
    assert_no_field(&reply, "ETag");
    reply_free(&reply);
    expect(client, 201, "PUT", "/kv/cond/new", "If-None-Match", "*");
    expect(client, 412, "PUT", "/kv/cond/new", "If-None-Match", "*");
    expect(client, 204, "PUT", "/kv/cond/new", "If-None-Match", OTHER_TAG);
    expect(client, 204, "PUT", "/kv/cond/new", "If-Match", "*");
}

static void a_condition_that_failed_changed_nothing(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64];
    put(client, "/kv/cond/kept", tag);
    expect(client, 412, "PUT", "/kv/cond/kept", "If-None-Match", "*");
    expect(client, 412, "DELETE", "/kv/cond/kept", "If-None-Match", tag);
    struct reply got = client_get(client, "/kv/cond/kept");
    assert_body(&got, "value");
    assert_field(&got, "ETag", tag);
    reply_free(&got);
}

static void malformed_lists_of_tags_are_400(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64];
    put(client, "/kv/cond/bad", tag);
    static const char *const bad[] = {"abc",        "\"abc",           "*, \"a\"", "\"a\" \"b\"",
                                      "w/\"a\"",    "\"a\", b",        "**",       "'a'",
                                      "\"a\"\"b\"", "\"with space a\\"};
    static const char *const names[] = {"If-Match", "If-None-Match"};
    static const char *const methods[] = {"GET", "PUT", "DELETE"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        for (size_t j = 0; j < COUNT_OF(names); j++) {
            for (size_t k = 0; k < COUNT_OF(methods); k++) {
                struct reply reply = ask(client, methods[k], "/kv/cond/bad", names[j], bad[i]);
                assert_problem(&reply, 400, "/problems/malformed-precondition");
                reply_free(&reply);
            }
        }
    }
    expect(client, 200, "GET", "/kv/cond/bad", "If-Match", tag);
}

/* `*` says all that there is to say: beside anything else, it isn't clear what is meant. */
static void a_star_beside_others_and_empty_lists_are_400(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const values[][2] = {
        {": *", ": " OTHER_TAG},
        {": " OTHER_TAG, ": *"},
        {": *", ": *"},
        {": *", ";"},
        {";", ": *"},
        {";", ";"},
        {": ,", ": , ,"},
        {";", ": " OTHER_TAG},
        {": " OTHER_TAG, ";"},
    };
    static const char *const names[] = {"If-Match", "If-None-Match"};
    static const char *const methods[] = {"GET", "PUT", "DELETE"};
    char tag[64], lines[2][64];
    put(client, "/kv/cond/star", tag);
    for (size_t i = 0; i < COUNT_OF(values) * COUNT_OF(names); i++) {
        for (size_t j = 0; j < 2; j++) {
            (void)snprintf(lines[j], sizeof lines[j], "%s%s", names[i % 2], values[i / 2][j]);
        }
        for (size_t k = 0; k < COUNT_OF(methods); k++) {
            const char *body = methods[k][0] == 'P' ? "x" : NULL;
            struct reply reply = client_send(client, methods[k], "/kv/cond/star",
                                             FIELDS(lines[0], lines[1]), body, 1);
            if (reply.status != 400) {
                print_error("%s, %s, %s\n", methods[k], lines[0], lines[1]);
            }
            assert_problem(&reply, 400, "/problems/malformed-precondition");
            reply_free(&reply);
        }
    }
    expect(client, 200, "GET", "/kv/cond/star", "If-Match", tag);
}

static void an_empty_list_is_not_as_good_as_none(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char *const fields[] = {"If-Match;", "If-None-Match;", "If-Match: ,",
                                         "If-None-Match: , ,"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        struct reply reply =
            client_send(client, "PUT", "/kv/cond/empty", FIELDS(fields[i]), "x", 1);
        assert_problem(&reply, 400, "/problems/malformed-precondition");
        reply_free(&reply);
    }
    expect_status(client, 404, "GET", "/kv/cond/empty", NULL, NULL);
}

static void head_that_fails_names_the_current_tag(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64];
    put(client, "/kv/cond/head", tag);
    struct reply reply = ask(client, "HEAD", "/kv/cond/head", "If-Match", OTHER_TAG);
    assert_status(&reply, 412);
    assert_field(&reply, "ETag", tag);
    assert_field(&reply, "Cache-Control", "no-store");
    assert_int_equal(reply.size, 0);
    reply_free(&reply);
    expect(client, 404, "HEAD", "/kv/cond/head/none", "If-Match", "*");
    expect(client, 400, "HEAD", "/kv/cond/head", "If-Match", "x");
}

static void several_fields_are_one_list(void **state)
{
    const struct fixture *fixture = *state;
    char tag[64];
    put(fixture->client, "/kv/cond/several", tag);
    char field[100];
    (void)snprintf(field, sizeof field, "If-None-Match: %s", tag);
    expect_status(fixture->client, 304, "GET", "/kv/cond/several",
                  FIELDS("If-None-Match: " OTHER_TAG, field), NULL);
    expect_status(fixture->client, 304, "GET", "/kv/cond/several",
                  FIELDS(field, "If-None-Match: " OTHER_TAG), NULL);
}

/* An hour from or before now, as a field's value. */
static const char *date(int hours, char text[64])
{
    time_t at = time(NULL) + hours * 3600;
    struct tm tm;
    gmtime_r(&at, &tm);
    (void)strftime(text, 64, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return text;
}

static void dates_count_where_there_is_no_tag(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], past[64], future[64];
    date(-1, past);
    date(1, future);
    put(client, "/kv/cond/dates", tag);
    expect(client, 200, "GET", "/kv/cond/dates", "If-Modified-Since", past);
    expect(client, 412, "GET", "/kv/cond/dates", "If-Unmodified-Since", past);
    expect(client, 200, "GET", "/kv/cond/dates", "If-Unmodified-Since", future);
    expect(client, 412, "PUT", "/kv/cond/dates", "If-Unmodified-Since", past);
    expect(client, 412, "DELETE", "/kv/cond/dates", "If-Unmodified-Since", past);
    expect(client, 204, "PUT", "/kv/cond/dates", "If-Unmodified-Since", future);
    /* Of no meaning for what isn't GET or HEAD. */
    expect(client, 204, "PUT", "/kv/cond/dates", "If-Modified-Since", future);
    /* No date at all is as if the field weren't there. */
    expect(client, 200, "GET", "/kv/cond/dates", "If-Unmodified-Since", "yesterday");
    expect(client, 204, "PUT", "/kv/cond/dates", "If-Unmodified-Since", "yesterday");
}

/* RFC 9110, 13.2.2: If-Match decides before If-None-Match does, and a tag before a date. */
static void several_conditions_are_decided_in_order(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char old[] = "Sat, 01 Jan 2000 00:00:00 GMT";
    static const char late[] = "Fri, 01 Jan 2100 00:00:00 GMT";
    char tag[64], match[80], match_other[80], none[80], none_other[80], since[80], unsince[80];
    put(client, "/kv/cond/order", tag);
    (void)snprintf(match, sizeof match, "If-Match: %s", tag);
    (void)snprintf(match_other, sizeof match_other, "If-Match: %s", OTHER_TAG);
    (void)snprintf(none, sizeof none, "If-None-Match: %s", tag);
    (void)snprintf(none_other, sizeof none_other, "If-None-Match: %s", OTHER_TAG);
    (void)snprintf(since, sizeof since, "If-Modified-Since: %s", late);
    (void)snprintf(unsince, sizeof unsince, "If-Unmodified-Since: %s", old);
    const struct {
        unsigned status;
        const char *first, *second;
    } cases[] = {
        {412, match_other, none},    {304, match, none},       {200, match, none_other},
        {304, none, since},          {200, none_other, since}, {412, unsince, none},
        {412, match_other, unsince}, {200, match, unsince},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        static const char *const methods[] = {"GET", "HEAD"};
        for (size_t j = 0; j < 2; j++) {
            struct reply reply = client_send(client, methods[j], "/kv/cond/order",
                                             FIELDS(cases[i].first, cases[i].second), NULL, 0);
            if (reply.status != cases[i].status) {
                print_error("%s\n%s\n", cases[i].first, cases[i].second);
            }
            assert_status(&reply, cases[i].status);
            reply_free(&reply);
        }
    }
}

/* One write with two conditions on a key that was just put. */
static void expect_write(struct client *client, unsigned status, const char *method,
                         const char *first, const char *second)
{
    char tag[64], lines[2][100];
    const char *const given[] = {first, second};
    const char *body = method[0] == 'P' ? "x" : NULL;
    put(client, "/kv/cond/both", tag);
    for (size_t i = 0; i < 2; i++) { /* a colon at the end is followed by the current tag */
        size_t length = strlen(given[i]);
        bool open = given[i][length - 1] == ':';
        (void)snprintf(lines[i], sizeof lines[i], "%s%s%s", given[i], open ? " " : "",
                       open ? tag : "");
    }
    struct reply reply =
        client_send(client, method, "/kv/cond/both", FIELDS(lines[0], lines[1]), body, 1);
    if (reply.status != status) {
        print_error("%s, %s, %s\n", method, lines[0], lines[1]);
    }
    assert_status(&reply, status);
    if (status == 412) {
        assert_problem(&reply, 412, "/problems/precondition-failed");
        assert_field(&reply, "ETag", tag);
        expect(client, 200, "GET", "/kv/cond/both", "If-Match", tag);
    }
    reply_free(&reply);
}

static void several_conditions_of_a_write_are_decided_in_order(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char match[] = "If-Match:", none[] = "If-None-Match:";
    static const char match_other[] = "If-Match: " OTHER_TAG;
    static const char none_other[] = "If-None-Match: " OTHER_TAG;
    static const char since_late[] = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT";
    static const char unsince_late[] = "If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT";
    static const char unsince_old[] = "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT";
    static const struct {
        unsigned status;
        const char *first, *second;
    } cases[] = {
        {412, match_other, none_other},
        {412, match_other, none},
        {412, match, none},
        {412, match, "If-None-Match: *"},
        {204, match, none_other},
        {204, "If-Match: *", none_other},
        {412, unsince_old, none_other},
        {412, unsince_late, none},
        {204, unsince_late, none_other},
        {204, match, unsince_old},
        {412, match_other, unsince_late},
        {204, none_other, since_late},
        {412, none, since_late},
        {204, match, since_late},
        {412, unsince_old, since_late},
        {204, unsince_late, since_late},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        expect_write(client, cases[i].status, "PUT", cases[i].first, cases[i].second);
        expect_write(client, cases[i].status, "PUT", cases[i].second, cases[i].first);
        expect_write(client, cases[i].status, "DELETE", cases[i].first, cases[i].second);
    }
    /* A key that isn't there has no tag that could match, and no date. */
    expect_status(client, 204, "DELETE", "/kv/cond/both", NULL, NULL);
    expect_status(client, 412, "PUT", "/kv/cond/both", FIELDS("If-Match: *", "If-None-Match: *"),
                  "x");
    expect_status(client, 201, "PUT", "/kv/cond/both",
                  FIELDS("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "If-None-Match: *"),
                  "x");
}

static void a_condition_on_a_missing_key_stops_a_delete(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    expect(client, 412, "DELETE", "/kv/cond/missing", "If-Match", "*");
    expect(client, 404, "DELETE", "/kv/cond/missing?missing=error", "If-Match", "*");
    expect(client, 204, "DELETE", "/kv/cond/missing", "If-None-Match", "*");
}

static void tags_win_over_dates(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], past[64], unmodified[100], match[100];
    put(client, "/kv/cond/order", tag);
    (void)snprintf(unmodified, sizeof unmodified, "If-Unmodified-Since: %s", date(-1, past));
    (void)snprintf(match, sizeof match, "If-Match: %s", tag);
    expect_status(client, 204, "PUT", "/kv/cond/order", FIELDS(unmodified, match), "x");
    expect_status(client, 412, "PUT", "/kv/cond/order", FIELDS(unmodified, match), "x");
}

/* The other two forms of a date (RFC 9110, 5.6.7), of Last-Modified and of a second before it. */
static void expect_old_forms_count(struct client *client, const char *path, const char *modified)
{
    static const char *const forms[] = {"%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"};
    struct tm tm = {0};
    assert_non_null(strptime(modified, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    time_t at = timegm(&tm), before = at - 1;
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        char now[64], earlier[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)strftime(now, sizeof now, forms[i], gmtime_r(&at, &tm));
        (void)strftime(earlier, sizeof earlier, forms[i], gmtime_r(&before, &tm));
#pragma GCC diagnostic pop
        expect(client, 304, "GET", path, "If-Modified-Since", now);
        expect(client, 200, "GET", path, "If-Modified-Since", earlier);
        expect(client, 200, "GET", path, "If-Unmodified-Since", now);
        expect(client, 412, "PUT", path, "If-Unmodified-Since", earlier);
    }
}

/* Two dates are none, even where they agree. */
static void expect_two_lines_ignored(struct client *client, const char *path, const char *modified)
{
    static const char old[] = "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT";
    char since[100];
    (void)snprintf(since, sizeof since, "If-Modified-Since: %s", modified);
    expect_status(client, 304, "GET", path, FIELDS(since), NULL);
    expect_status(client, 200, "GET", path, FIELDS(since, since), NULL);
    expect_status(client, 412, "GET", path, FIELDS(old), NULL);
    expect_status(client, 200, "GET", path, FIELDS(old, old), NULL);
    expect_status(client, 204, "PUT", path, FIELDS(old, old), "x");
}

static void dates_count_in_each_form_and_once(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    char tag[64], modified[64] = "";
    put(client, "/kv/cond/since", tag);
    while (modified[0] == '\0') {
        struct reply got = client_get(client, "/kv/cond/since");
        const char *field = reply_field(&got, "Last-Modified");
        (void)snprintf(modified, sizeof modified, "%s", field != NULL ? field : "");
        reply_free(&got);
    }
    expect(client, 304, "GET", "/kv/cond/since", "If-Modified-Since", modified);
    expect(client, 304, "HEAD", "/kv/cond/since", "If-Modified-Since", modified);
    expect(client, 200, "GET", "/kv/cond/since", "If-Unmodified-Since", modified);
    expect_old_forms_count(client, "/kv/cond/since", modified);
    expect_two_lines_ignored(client, "/kv/cond/since", modified);
}

/* GET, and notes when that was, by the field Date. */
static struct reply get_at(struct client *client, const char *path, char seen[64])
{
    struct reply got = client_get(client, path);
    assert_status(&got, 200);
    (void)snprintf(seen, 64, "%s", reply_field(&got, "Date"));
    return got;
}

/* Whoever saw another version of the key at `seen` is told so, and doesn't overwrite this one. */
static void expect_modified_since(struct client *client, const char *path, const char *seen)
{
    expect(client, 200, "GET", path, "If-Modified-Since", seen);
    expect(client, 200, "HEAD", path, "If-Modified-Since", seen);
    expect(client, 412, "GET", path, "If-Unmodified-Since", seen);
    expect(client, 412, "PUT", path, "If-Unmodified-Since", seen);
    expect(client, 412, "DELETE", path, "If-Unmodified-Since", seen);
}

/* Regression: the second version's date was the second in which the first one had been seen. Caches
 * take Date where there is no Last-Modified. */
static void two_versions_of_one_second_are_told_apart_by_date(void **state)
{
    struct client *client = ((struct fixture *)*state)->client;
    static const char path[] = "/kv/cond/twice";
    char tag[64], seen[64] = "", after[64] = "";
    while (seen[0] == 0 || strcmp(seen, after) != 0) {
        put(client, path, tag);
        struct reply first = get_at(client, path, seen);
        assert_no_field(&first, "Last-Modified");
        reply_free(&first);
        put(client, path, tag);
        struct reply second = get_at(client, path, after);
        reply_free(&second);
    }
    expect_modified_since(client, path, seen);
    /* And also later, when the second has passed. */
    for (bool dated = false; !dated;) {
        struct reply got = get_at(client, path, after);
        dated = reply_field(&got, "Last-Modified") != NULL;
        reply_free(&got);
    }
    expect_modified_since(client, path, seen);
    expect(client, 304, "GET", path, "If-Modified-Since", after);
    expect(client, 204, "PUT", path, "If-Unmodified-Since", after);
}

/* Regression: a version's date was that of the beginning of its upload. */
static void an_upload_that_takes_long_is_dated_by_its_end(void **state)
{
    const struct fixture *fixture = *state;
    static const char path[] = "/kv/cond/upload";
    enum { SECONDS = 4 };
    char tag[64], seen[64], before[64] = "";
    put(fixture->client, path, tag);
    int fd = raw_connect(fixture->server);
    raw_send(fd, "PUT /kv/cond/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
                 "Expect: 100-continue\r\n\r\n");
    struct reply reply = raw_reply(fd);
    assert_status(&reply, 100);
    reply_free(&reply);
    for (int changes = 0; changes < SECONDS;) { /* of the date */
        reply = get_at(fixture->client, path, seen);
        changes += strcmp(seen, before) != 0;
        (void)snprintf(before, sizeof before, "%s", seen);
        reply_free(&reply);
    }
    raw_send(fd, "late");
    reply = raw_reply(fd);
    assert_status(&reply, 204);
    reply_free(&reply);
    close(fd);
    expect_modified_since(fixture->client, path, seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_with_the_current_tag_is_304),
        cmocka_unit_test(get_of_a_missing_key_is_404_whatever_the_condition),
        cmocka_unit_test(get_with_another_tag_wanted_is_412),
        cmocka_unit_test(compare_and_set_by_tag),
        cmocka_unit_test(create_only_if_absent),
        cmocka_unit_test(a_condition_that_failed_changed_nothing),
        cmocka_unit_test(malformed_lists_of_tags_are_400),
        cmocka_unit_test(a_star_beside_others_and_empty_lists_are_400),
        cmocka_unit_test(an_empty_list_is_not_as_good_as_none),
        cmocka_unit_test(head_that_fails_names_the_current_tag),
        cmocka_unit_test(several_fields_are_one_list),
        cmocka_unit_test(dates_count_where_there_is_no_tag),
        cmocka_unit_test(several_conditions_are_decided_in_order),
        cmocka_unit_test(several_conditions_of_a_write_are_decided_in_order),
        cmocka_unit_test(a_condition_on_a_missing_key_stops_a_delete),
        cmocka_unit_test(tags_win_over_dates),
        cmocka_unit_test(dates_count_in_each_form_and_once),
        cmocka_unit_test(two_versions_of_one_second_are_told_apart_by_date),
        cmocka_unit_test(an_upload_that_takes_long_is_dated_by_its_end),
    };
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
