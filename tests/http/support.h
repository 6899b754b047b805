/*
 * support.h - a server of one's own, and requests to it.
 *
 * server_start() runs the real program on a port that the kernel picks, with a fresh data
 * directory, and waits until it is ready. server_stop() ends it with SIGTERM and fails the test
 * unless it exits with 0 and no sanitizer complained. Nothing here waits by sleeping: what a test
 * waits for is a line of the log, an answer or the end of a process, each with a limit of time.
 *
 * Threads:   the test's thread. Others may use clients of their own, but not the functions that
 *            can fail the test: those are the assert_ ones, expect_status() and raw_ ones.
 * Ownership: replies are released by reply_free(), which allows one that is all zero.
 * Errors:    everything that must not fail fails the test, with a message.
 */
#ifndef TESTS_HTTP_SUPPORT_H
#define TESTS_HTTP_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* No wait takes longer than this before the test fails. */
enum { PATIENCE_MS = 60000 };

/* --- A server --- */

struct server;

/* `arguments`: options of `varve serve` beside --listen and --data-dir; NULL-terminated, or NULL.
 * They come last, so that they win. */
struct server *server_start(const char *const arguments[]);

/* The same in `dir`, which is left in place by server_stop(). */
struct server *server_start_in(const char *dir, const char *const arguments[]);

/* Only starts the process: returns before it is ready, or at once when it can't start. */
struct server *server_spawn(const char *dir, const char *const arguments[]);

/* Waits for `event=listening` and learns the address. */
void server_wait_listening(struct server *server);

/* SIGTERM; the exit status must be 0. */
void server_stop(struct server *server);

void server_signal(struct server *server, int number);

/* Waits for the end of the process, frees the server, returns the exit status (128 + n: killed by
 * signal n). Fails if a sanitizer complained. ret_log, if not NULL: the log, for free(). */
int server_wait(struct server *server, char **ret_log);

pid_t server_pid(const struct server *server);
uint16_t server_port(const struct server *server);
const char *server_url(const struct server *server); /* "http://127.0.0.1:41231" */
const char *server_dir(const struct server *server);

/* Waits until `text` is in the log. */
void server_wait_log(struct server *server, const char *text);

/* Whether it is there now. */
bool server_log_has(struct server *server, const char *text);

/* Kibibytes of a line of /proc/<pid>/status, such as "RssAnon". */
uint64_t server_memory_kib(const struct server *server, const char *line);

/* --- Values that have to come from the disk --- */

/* False where data directories are in memory alone, as on tmpfs. */
bool can_evict(void);

/* All pages of the tables in `dir` leave memory. While no server runs there: the kernel keeps what
 * is mapped. */
void evict_tables(const char *dir);

/* --- System calls that fail --- */

/* Whether strace is there and may trace. */
bool strace_works(void);

/* From some moment soon on, the server's system calls are tampered with, as in
 * "inject=fdatasync:error=EIO:when=5+". Returns the tracer. */
pid_t strace_server(const struct server *server, const char *what);
void strace_stop(pid_t tracer);

/* Waits until the tracer has all threads that the server has now. */
void strace_wait_attached(const struct server *server);

/* --- Requests through libcurl --- */

struct reply {
    unsigned status; /* 0: no answer came, `error` says why */
    char *head;      /* status line and header fields as they came, NUL-terminated */
    char *body;      /* NUL-terminated beyond its size */
    size_t size;
    bool closed; /* raw_reply() only: the server closed the connection */
    char error[256];
};

void reply_free(struct reply *reply);

/* The value of a header field, for the life of the calling thread's next 8 calls; NULL: not
 * there. */
const char *reply_field(const struct reply *reply, const char *name);

struct client;

/* A connection that is kept and reused. */
struct client *client_new(const struct server *server);
void client_free(struct client *client);

/* The most general request. `path` is sent as it is. `fields`: NULL-terminated or NULL. A body
 * that isn't NULL is sent with Content-Length, and without Expect: 100-continue unless asked. */
struct reply client_send(struct client *client, const char *method, const char *path,
                         const char *const fields[], const void *body, size_t size);

/* The same with Transfer-Encoding: chunked, in pieces of at most `piece` bytes. */
struct reply client_send_chunked(struct client *client, const char *method, const char *path,
                                 const char *const fields[], const void *body, size_t size,
                                 size_t piece);

struct reply client_get(struct client *client, const char *path);
struct reply client_put(struct client *client, const char *path, const char *text);
struct reply client_delete(struct client *client, const char *path);

/* One request whose status must be `status`; the reply is dropped. */
void expect_status(struct client *client, unsigned status, const char *method, const char *path,
                   const char *const fields[], const char *text);

#define FIELDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Fails unless the reply is application/problem+json of that type and status, with all members
 * that every problem has. */
void assert_problem(const struct reply *reply, unsigned status, const char *type);

/* Fails with what was said instead. */
void assert_status(const struct reply *reply, unsigned status);
void assert_body(const struct reply *reply, const char *text);
void assert_field(const struct reply *reply, const char *name, const char *value);
void assert_no_field(const struct reply *reply, const char *name);

/* --- Raw sockets, for requests that no client library would send --- */

int raw_connect(const struct server *server);
void raw_send(int fd, const char *text);
void raw_send_bytes(int fd, const void *bytes, size_t size);

/* Reads one answer. `closed` says whether the server closed the connection behind it, or instead of
 * it (status 0). `head_only`: the answer to a HEAD request has no body. */
struct reply raw_reply(int fd);
struct reply raw_reply_to_head(int fd);

/* Reads one answer and waits until the server closes; fails if it doesn't. */
struct reply raw_last_reply(int fd);

/* Waits until the server has closed the connection, by FIN or RST. */
void raw_wait_closed(int fd);

/* Reads and drops everything until the server closes. */
void raw_drop_to_end(int fd);

/* Sends `text`, reads one answer, closes. */
struct reply raw_exchange(const struct server *server, const char *text);

#endif
