/* http_engines.c - servers behind the functions of an engine. */
#include "tests/bench/http_engines.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/measure.h"

enum { TARGET_BYTES = 256, BASE64_KEY_BYTES = 512 };

struct connection {
    CURL *curl;
    struct curl_slist *fields;
    const char *url;
    char *reply; /* terminated */
    size_t reply_size, reply_room;
    char *request; /* room for a body in base64 */
};

static size_t take_reply(char *data, size_t one, size_t n, void *arg)
{
    struct connection *connection = arg;
    (void)one;
    if (connection->reply_size + n + 1 > connection->reply_room) {
        connection->reply_room = 2 * (connection->reply_size + n + 1);
        connection->reply = realloc(connection->reply, connection->reply_room);
        measure_check(connection->reply != NULL, "reply", "no memory");
    }
    memcpy(connection->reply + connection->reply_size, data, n);
    connection->reply_size += n;
    connection->reply[connection->reply_size] = '\0';
    return n;
}

static void *url_open(const char *place, bool synced)
{
    (void)synced;
    measure_check(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, place, "libcurl");
    return (void *)place;
}

static void url_close(void *db)
{
    (void)db;
    curl_global_cleanup();
}

static void *connection_new(void *db)
{
    struct connection *connection = calloc(1, sizeof *connection);
    measure_check(connection != NULL, "connection", "no memory");
    connection->url = db;
    connection->curl = curl_easy_init();
    connection->fields = curl_slist_append(NULL, "Content-Type:"); /* curl's own */
    measure_check(connection->curl && connection->fields, "connection", "no memory");
    curl_easy_setopt(connection->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(connection->curl, CURLOPT_HTTPHEADER, connection->fields);
    curl_easy_setopt(connection->curl, CURLOPT_WRITEFUNCTION, take_reply);
    curl_easy_setopt(connection->curl, CURLOPT_WRITEDATA, connection);
    return connection;
}

static void connection_free(void *session)
{
    struct connection *connection = session;
    curl_easy_cleanup(connection->curl);
    curl_slist_free_all(connection->fields);
    free(connection->request);
    free(connection->reply);
    free(connection);
}

/* Sends `method` with `body` (data NULL: none) and returns the status; the reply is in place. */
static long ask(struct connection *connection, const char *method, const char *target,
                struct bytes body)
{
    char url[2 * TARGET_BYTES];
    long status = 0;
    connection->reply_size = 0;
    (void)take_reply((char[]){""}, 1, 0, connection); /* terminated, at least */
    (void)snprintf(url, sizeof url, "%s%s", connection->url, target);
    curl_easy_setopt(connection->curl, CURLOPT_URL, url);
    if (body.data) {
        curl_easy_setopt(connection->curl, CURLOPT_POSTFIELDSIZE, (long)body.size);
        curl_easy_setopt(connection->curl, CURLOPT_POSTFIELDS, body.data);
    } else {
        curl_easy_setopt(connection->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(connection->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(connection->curl);
    measure_check(code == CURLE_OK, url, curl_easy_strerror(code));
    curl_easy_getinfo(connection->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static void expect(struct connection *connection, bool right, const char *what)
{
    measure_check(right, what, connection->reply);
}

/* A put was answered when it was done. */
static void no_sync(void *session)
{
    (void)session;
}

static void no_compact(void *db)
{
    (void)db;
}

/* "<prefix><key><suffix>" */
static const char *target_of(const char *prefix, struct bytes key, const char *suffix,
                             char ret_target[TARGET_BYTES])
{
    (void)snprintf(ret_target, TARGET_BYTES, "%s%.*s%s", prefix, (int)key.size,
                   (const char *)key.data, suffix);
    return ret_target;
}

/* GET of a target whose body is the value. */
static bool get_plain(struct connection *connection, const char *target, struct bytes key,
                      engine_each_fn *each, void *arg)
{
    long status = ask(connection, "GET", target, bytes_of(NULL, 0));
    if (status == 404) {
        return false;
    }
    expect(connection, status == 200, target);
    each(arg, key, bytes_of(connection->reply, connection->reply_size));
    return true;
}

/* The reply as JSON; of its array `name`, calls each() with the key that key_of() finds in an
 * element. Returns how many there were. */
static uint64_t each_key(struct connection *connection, const char *name,
                         struct bytes (*key_of)(const json_t *element, char *room),
                         engine_each_fn *each, void *arg)
{
    char room[BASE64_KEY_BYTES];
    json_t *root = json_loadb(connection->reply, connection->reply_size, 0, NULL), *element;
    size_t i, n = json_array_size(json_object_get(root, name));
    expect(connection, root != NULL, "a list");
    json_array_foreach (json_object_get(root, name), i, element) {
        each(arg, key_of(element, room), bytes_of(NULL, 0));
    }
    json_decref(root);
    return n;
}

/* --- varve ------------------------------------------------------------------------------------ */

static void varve_put(void *session, struct bytes key, struct bytes value)
{
    char target[TARGET_BYTES];
    long status = ask(session, "PUT", target_of("/kv/", key, "", target), value);
    expect(session, status == 201 || status == 204, target);
}

static bool varve_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    char target[TARGET_BYTES];
    return get_plain(session, target_of("/kv/", key, "", target), key, each, arg);
}

static struct bytes varve_key_of(const json_t *element, char *room)
{
    const char *key = json_string_value(json_object_get(element, "key"));
    (void)room;
    return bytes_of_text(key ? key : "");
}

static uint64_t varve_scan(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                           void *arg)
{
    char target[TARGET_BYTES], limit[32];
    (void)snprintf(limit, sizeof limit, "&limit=%llu", (unsigned long long)n);
    long status =
        ask(session, "GET", target_of("/kv?start=", start, limit, target), bytes_of(NULL, 0));
    expect(session, status == 200, target);
    return each_key(session, "keys", varve_key_of, each, arg);
}

/* --- Redis behind webdis ------------------------------------------------------------------------
 */

static void webdis_put(void *session, struct bytes key, struct bytes value)
{
    char target[TARGET_BYTES];
    struct connection *connection = session;
    long status = ask(connection, "PUT", target_of("/SET/", key, "", target), value);
    expect(connection, status == 200 && strcmp(connection->reply, "{\"SET\":[true,\"OK\"]}") == 0,
           target);
}

static bool webdis_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    char target[TARGET_BYTES];
    return get_plain(session, target_of("/GET/", key, ".txt", target), key, each, arg);
}

/* --- etcd: keys and values in base64 within JSON -------------------------------------------------
 */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Appends `bytes` in base64 and returns the end. */
static char *encode64(char *into, struct bytes bytes)
{
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)at[i] << 16 | (left > 1 ? (uint32_t)at[i + 1] << 8 : 0) |
                         (left > 2 ? at[i + 2] : 0);
        *into++ = base64_digits[group >> 18];
        *into++ = base64_digits[group >> 12 & 63];
        *into++ = left > 1 ? base64_digits[group >> 6 & 63] : '=';
        *into++ = left > 2 ? base64_digits[group & 63] : '=';
    }
    return into;
}

/* Decodes well-formed base64; returns the size. */
static size_t decode64(const char *text, uint8_t *into)
{
    size_t size = 0;
    uint32_t bits = 0;
    for (size_t i = 0; text[i] != '\0' && text[i] != '='; i++) {
        const char *digit = strchr(base64_digits, text[i]);
        measure_check(digit != NULL, "base64", text);
        bits = bits << 6 | (uint32_t)(digit - base64_digits);
        if (i % 4 != 0) {
            into[size++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return size;
}

/* Begins a request with {"key":"…" and returns its end; room for `more` bytes in base64 behind it.
 */
static char *begin_request(struct connection *connection, struct bytes key, size_t more)
{
    connection->request =
        realloc(connection->request, 2 * (key.size + more) + (size_t)TARGET_BYTES);
    measure_check(connection->request != NULL, "request", "no memory");
    return stpcpy(encode64(stpcpy(connection->request, "{\"key\":\""), key), "\"");
}

static void etcd_ask(struct connection *connection, const char *target, const char *end)
{
    long status = ask(connection, "POST", target,
                      bytes_of(connection->request, (size_t)(end - connection->request)));
    expect(connection, status == 200, target);
}

static void etcd_put(void *session, struct bytes key, struct bytes value)
{
    char *end = begin_request(session, key, value.size);
    end = stpcpy(encode64(stpcpy(end, ",\"value\":\""), value), "\"}");
    etcd_ask(session, "/v3/kv/put", end);
}

static bool etcd_get(void *session, struct bytes key, engine_each_fn *each, void *arg)
{
    struct connection *connection = session;
    etcd_ask(connection, "/v3/kv/range", stpcpy(begin_request(connection, key, 0), "}"));
    json_t *root = json_loadb(connection->reply, connection->reply_size, 0, NULL);
    json_t *found = json_array_get(json_object_get(root, "kvs"), 0);
    expect(connection, root != NULL, "a value");
    if (found) {
        const char *text = json_string_value(json_object_get(found, "value"));
        expect(connection, text != NULL, "a value");
        uint8_t *into = (uint8_t *)connection->reply; /* parsed already, and longer */
        each(arg, key, bytes_of(into, decode64(text, into)));
    }
    json_decref(root);
    return found != NULL;
}

static struct bytes etcd_key_of(const json_t *element, char *room)
{
    const char *text = json_string_value(json_object_get(element, "key"));
    measure_check(text && strlen(text) < BASE64_KEY_BYTES, "a key", text ? text : "missing");
    return bytes_of(room, decode64(text, (uint8_t *)room));
}

static uint64_t etcd_scan(void *session, struct bytes start, uint64_t n, engine_each_fn *each,
                          void *arg)
{
    char *end = begin_request(session, start, 0);
    end += sprintf(end, ",\"range_end\":\"AA==\",\"keys_only\":true,\"limit\":%llu}",
                   (unsigned long long)n);
    etcd_ask(session, "/v3/kv/range", end);
    return each_key(session, "kvs", etcd_key_of, each, arg);
}

#define SERVER(its_name, its_put, its_get, its_scan)                                             \
    {                                                                                            \
        .name = (its_name), .open = url_open, .close = url_close, .session_new = connection_new, \
        .session_free = connection_free, .put = (its_put), .sync = no_sync, .get = (its_get),    \
        .scan = (its_scan), .compact = no_compact,                                               \
    }

const struct engine http_varve = SERVER("varve", varve_put, varve_get, varve_scan);
const struct engine http_webdis = SERVER("webdis", webdis_put, webdis_get, NULL);
const struct engine http_etcd = SERVER("etcd", etcd_put, etcd_get, etcd_scan);
