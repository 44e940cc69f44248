/*
 * The SMTP credentials of a configuration: read when it is loaded, and read
 * again when SES has refused them.
 *
 * Called on the loop thread: what is read are a few bytes of a local file.
 * struct config owns what was read last; options.pool points into it, so who
 * has copied those options has copies of its own.
 */
#include "config_private.h"

#include "credentials.h"

/* The key that says where the password is. */
static const char *password_key(const struct config *c)
{
	if (c->ses.password_file)
		return "ses.password_file";
	if (c->ses.secret_key_file)
		return "ses.secret_key_file";
	return c->ses.password ? "ses.password" : "ses.username";
}

static struct credentials *load(const struct config *c, struct err *err)
{
	const struct credentials_options options = {
		.username = c->ses.username,
		.password_file = c->ses.password_file,
		.secret_key_file = c->ses.secret_key_file,
		.password = c->ses.password,
		.region = c->ses.region,
	};

	return credentials_load(&options, err);
}

/* Takes them; options.pool points into them. */
static void keep(struct config *c, struct credentials *found)
{
	struct pool_options *pool = &c->options.pool;

	credentials_free(c->credentials);
	c->credentials = found;
	pool->auth_plain = found->plain;
	pool->auth_user = found->login_user;
	pool->auth_pass = found->login_pass;
}

static void load_credentials(struct config_reader *r)
{
	struct config *c = r->config;
	unsigned line = config_key_line(r, password_key(c));
	struct err err;
	struct credentials *found = load(c, &err);

	if (!found) {
		config_error(r, line, "%s", err.text);
		return;
	}
	if (found->warning[0])
		config_warn(r, line, "%s", found->warning);
	keep(c, found);
}

void config_derive_credentials(struct config_reader *r)
{
	static const char *const inputs[] = { "ses.username", "ses.region",
		"ses.password_file", "ses.secret_key_file", "ses.password" };
	struct config *c = r->config;
	unsigned line = config_key_line(r, "ses.username");
	int n_sources = !!c->ses.password_file + !!c->ses.secret_key_file +
	    !!c->ses.password;

	if (n_sources > 1)
		config_warn(r, line,
		    "more than one of 'ses.password_file', "
		    "'ses.secret_key_file' and 'ses.password' is set; the "
		    "first of them, in this order, is used");
	for (size_t i = 0; i < ARRAY_LEN(inputs); i++)
		if (config_key_bad(r, inputs[i]))
			return;
	if (c->ses.username)
		load_credentials(r);
	else
		config_error(r, line,
		    "'ses.username' is missing: set it to the SMTP user name "
		    "that SES gave you, an access key id such as "
		    "\"AKIAIOSFODNN7EXAMPLE\"%s",
		    n_sources ? ""
			      : ", and 'ses.password_file' to a file of mode "
				"600 that holds the SMTP password");
}

int config_reread_credentials(struct config *c, struct err *err)
{
	struct credentials *found = load(c, err);

	if (!found)
		return -1;
	if (credentials_equal(found, c->credentials)) {
		credentials_free(found);
		return 0;
	}
	keep(c, found);
	return 1;
}
