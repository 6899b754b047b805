/* Requests through libcurl. */
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "tests/http/support.h"
#include "tests/support/check.h"

struct client {
    CURL *curl;
    char url[128];
};

/* Bytes that grow. */
struct buffer {
    char *bytes;
    size_t size;
};

static size_t grow(struct buffer *buffer, const char *bytes, size_t size)
{
    char *longer = realloc(buffer->bytes, buffer->size + size + 1);
    if (longer == NULL) {
        return 0;
    }
    memcpy(longer + buffer->size, bytes, size);
    buffer->bytes = longer;
    buffer->size += size;
    longer[buffer->size] = '\0';
    return size;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    return grow(arg, data, size * n);
}

/* Keeps the last head: 100 Continue may come before it. */
static size_t take_head(char *data, size_t size, size_t n, void *arg)
{
    struct buffer *buffer = arg;
    if (size * n > 5 && memcmp(data, "HTTP/", 5) == 0) {
        buffer->size = 0;
    }
    return grow(buffer, data, size * n);
}

struct client *client_new(const struct server *server)
{
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || (client->curl = curl_easy_init()) == NULL) {
        abort();
    }
    (void)snprintf(client->url, sizeof client->url, "%s/", server_url(server));
    return client;
}

void client_free(struct client *client)
{
    curl_easy_cleanup(client->curl);
    free(client);
}

static bool has_field(const char *const fields[], const char *name)
{
    for (size_t i = 0; fields != NULL && fields[i] != NULL; i++) {
        if (strncasecmp(fields[i], name, strlen(name)) == 0) {
            return true;
        }
    }
    return false;
}

/* What libcurl adds unasked is taken out where the test doesn't ask for it. */
static struct curl_slist *make_fields(const char *const fields[])
{
    struct curl_slist *list = NULL;
    static const char *const unwanted[] = {"Expect:", "Content-Type:", "Accept:"};
    for (size_t i = 0; i < COUNT_OF(unwanted); i++) {
        if (!has_field(fields, unwanted[i])) {
            list = curl_slist_append(list, unwanted[i]);
        }
    }
    for (size_t i = 0; fields != NULL && fields[i] != NULL; i++) {
        list = curl_slist_append(list, fields[i]);
    }
    return list;
}

/* Sets all but the body, and clears what an earlier request had set. */
static void prepare(struct client *client, const char *method, const char *path,
                    struct curl_slist *fields)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, client->url);
    curl_easy_setopt(curl, CURLOPT_REQUEST_TARGET, path);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_EXPECT_100_TIMEOUT_MS, (long)PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_NOBODY, strcmp(method, "HEAD") == 0 ? 1L : 0L);
}

static struct reply perform(struct client *client)
{
    CURL *curl = client->curl;
    struct buffer head = {0};
    struct buffer body = {0};
    struct reply reply = {0};
    (void)grow(&body, "", 0);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reply.error);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_head);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &head);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    CURLcode code = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    if (code != CURLE_OK && reply.error[0] == '\0') {
        (void)snprintf(reply.error, sizeof reply.error, "%s\n", curl_easy_strerror(code));
    }
    /* A transfer that broke counts as no answer. */
    reply.status = code == CURLE_OK ? (unsigned)status : 0;
    reply.head = head.bytes;
    reply.body = body.bytes;
    reply.size = body.size;
    return reply;
}

struct reply client_send(struct client *client, const char *method, const char *path,
                         const char *const fields[], const void *body, size_t size)
{
    struct curl_slist *list = make_fields(fields);
    prepare(client, method, path, list);
    if (body != NULL) {
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    }
    struct reply reply = perform(client);
    curl_slist_free_all(list);
    return reply;
}

struct pieces {
    const char *bytes;
    size_t left;
    size_t piece;
};

static size_t give_piece(char *into, size_t size, size_t n, void *arg)
{
    struct pieces *pieces = arg;
    size_t room = size * n;
    size_t give = pieces->left < pieces->piece ? pieces->left : pieces->piece;
    give = give < room ? give : room;
    memcpy(into, pieces->bytes, give);
    pieces->bytes += give;
    pieces->left -= give;
    return give;
}

struct reply client_send_chunked(struct client *client, const char *method, const char *path,
                                 const char *const fields[], const void *body, size_t size,
                                 size_t piece)
{
    struct pieces pieces = {.bytes = body, .left = size, .piece = piece};
    struct curl_slist *list = curl_slist_append(make_fields(fields), "Transfer-Encoding: chunked");
    prepare(client, method, path, list);
    curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, give_piece);
    curl_easy_setopt(client->curl, CURLOPT_READDATA, &pieces);
    struct reply reply = perform(client);
    curl_slist_free_all(list);
    return reply;
}

struct reply client_get(struct client *client, const char *path)
{
    return client_send(client, "GET", path, NULL, NULL, 0);
}

struct reply client_put(struct client *client, const char *path, const char *text)
{
    return client_send(client, "PUT", path, NULL, text, strlen(text));
}

struct reply client_delete(struct client *client, const char *path)
{
    return client_send(client, "DELETE", path, NULL, NULL, 0);
}

void expect_status(struct client *client, unsigned status, const char *method, const char *path,
                   const char *const fields[], const char *text)
{
    struct reply reply =
        client_send(client, method, path, fields, text, text != NULL ? strlen(text) : 0);
    assert_status(&reply, status);
    reply_free(&reply);
}
