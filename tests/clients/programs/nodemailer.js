// nodemailer.js raw|made PORT DIRECTORY FROM TO [CC BCC]
"use strict";
const fs = require("fs");
const nodemailer = require(process.env.NODEMAILER);

const [how, port, directory, from, to, cc, bcc] = process.argv.slice(2);
const options = { host: "127.0.0.1", port: Number(port), secure: false };
if (process.env.LOGIN) {
	const [user, pass] = process.env.LOGIN.split(":");
	options.auth = { user, pass };
	options.authMethod = process.env.MECHANISM;
}
let mail;
if (how === "raw") {
	mail = {
		envelope: { from, to: [to, cc, bcc].filter(Boolean) },
		raw: fs.readFileSync(directory + "/message"),
	};
} else {
	mail = { from, to, cc, bcc, subject: process.env.SUBJECT,
		text: fs.readFileSync(directory + "/text", "utf8") };
	const blob = directory + "/blob.bin";
	if (fs.existsSync(blob))
		mail.attachments = [{ path: blob }];
}
nodemailer.createTransport(options).sendMail(mail).catch((error) => {
	console.error(error);
	process.exitCode = 1;
});
