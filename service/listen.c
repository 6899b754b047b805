#include "service/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections that may wait for accept(); the kernel caps it at net.core.somaxconn. */
enum { BACKLOG = 4096 };

/* Of an answer, what the kernel takes beyond what is on its way. A client that doesn't read would
 * else have it hold megabytes, and its answer would seem to be sent (deadline.h). */
enum { UNSENT_MAX_BYTES = 256 * 1024 };

static enum err failed(const struct address *address, const char *what, struct err_detail *detail)
{
    int number = errno;
    char text[ADDRESS_TEXT_BYTES];
    address_format(address, text);
    if (number == EADDRINUSE) {
        err_detail_set(detail, "cannot listen on %s: the address is in use by another process",
                       text);
        return ERR_EXISTS;
    }
    err_detail_set(detail, "cannot listen on %s: %s: %s", text, what, strerror(number));
    return number == EADDRNOTAVAIL || number == EACCES ? ERR_INVALID : ERR_IO;
}

static enum err open_bound(const struct address *address, bool shared, int *ret_fd,
                           struct err_detail *detail)
{
    const int on = 1, off = 0, unsent = UNSENT_MAX_BYTES;
    const struct sockaddr *sockaddr = (const struct sockaddr *)&address->sockaddr;
    int fd = socket(sockaddr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return failed(address, "socket", detail);
    }
    const char *what = "setsockopt";
    /* [::] means IPv4 too, whatever the system's default. */
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              (!shared || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
              /* Connections inherit it. */
              setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent) == 0 &&
              (sockaddr->sa_family != AF_INET6 ||
               setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
    if (ok) {
        what = "bind";
        ok = bind(fd, sockaddr, address->length) == 0;
    }
    if (!ok) {
        enum err err = failed(address, what, detail);
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return ERR_OK;
}

/* Sockets with SO_REUSEPORT would share the port with any other server of the same user without
 * a word; binding one without it fails if anybody listens there. */
static enum err check_free(const struct address *address, struct err_detail *detail)
{
    int fd;
    enum err err = open_bound(address, false, &fd, detail);
    if (err == ERR_OK) {
        close(fd);
    }
    return err;
}

static enum err open_one(struct address *address, int *ret_fd, struct err_detail *detail)
{
    int fd;
    enum err err = open_bound(address, true, &fd, detail);
    if (err != ERR_OK) {
        return err;
    }
    socklen_t length = sizeof address->sockaddr;
    if (getsockname(fd, (struct sockaddr *)&address->sockaddr, &length) != 0 ||
        listen(fd, BACKLOG) != 0) {
        err = failed(address, "listen", detail);
        close(fd);
        return err;
    }
    address->length = length;
    *ret_fd = fd;
    return ERR_OK;
}

enum err listen_open(struct address *address, unsigned n, int ret_fds[], struct err_detail *detail)
{
    enum err err = address_port(address) == 0 ? ERR_OK : check_free(address, detail);
    for (unsigned i = 0; err == ERR_OK && i < n; i++) {
        err = open_one(address, &ret_fds[i], detail);
        if (err != ERR_OK) {
            while (i-- > 0) {
                close(ret_fds[i]);
            }
            break;
        }
    }
    return err;
}
