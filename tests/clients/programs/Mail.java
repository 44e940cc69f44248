// Mail raw|made PORT DIRECTORY FROM TO [CC BCC]

import java.io.File;
import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Properties;
import javax.mail.Address;
import javax.mail.Message;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeBodyPart;
import javax.mail.internet.MimeMessage;
import javax.mail.internet.MimeMultipart;

public class Mail {
	private static MimeMessage made(Session session, String[] args)
			throws Exception {
		File blob = new File(args[2], "blob.bin");
		String text = Files.readString(new File(args[2], "text").toPath());
		MimeMessage message = new MimeMessage(session);
		message.setFrom(new InternetAddress(args[3]));
		message.setRecipients(Message.RecipientType.TO, args[4]);
		if (args.length > 5) {
			message.setRecipients(Message.RecipientType.CC, args[5]);
			message.setRecipients(Message.RecipientType.BCC, args[6]);
		}
		message.setSubject(System.getenv("SUBJECT"));
		if (blob.exists()) {
			MimeBodyPart first = new MimeBodyPart();
			first.setText(text, "utf-8");
			MimeBodyPart second = new MimeBodyPart();
			second.attachFile(blob);
			message.setContent(new MimeMultipart(first, second));
		} else {
			message.setText(text, "utf-8");
		}
		message.saveChanges();
		return message;
	}

	public static void main(String[] args) throws Exception {
		Properties settings = new Properties();
		settings.put("mail.smtp.host", "127.0.0.1");
		settings.put("mail.smtp.port", args[1]);
		settings.put("mail.smtp.from", args[3]);
		settings.put("mail.smtp.localhost", "client.example");
		String login = System.getenv("LOGIN");
		if (login != null) {
			settings.put("mail.smtp.auth", "true");
			settings.put("mail.smtp.auth.mechanisms",
				System.getenv("MECHANISM"));
		}
		Session session = Session.getInstance(settings);
		Message message;
		Address[] to = new Address[args.length - 4];
		for (int i = 0; i < to.length; i++)
			to[i] = new InternetAddress(args[i + 4]);
		if (args[0].equals("raw")) {
			try (FileInputStream in = new FileInputStream(
					new File(args[2], "message"))) {
				message = new MimeMessage(session, in);
			}
		} else {
			message = made(session, args);
		}
		Transport transport = session.getTransport("smtp");
		if (login != null) {
			String[] words = login.split(":", 2);
			transport.connect(words[0], words[1]);
		} else {
			transport.connect();
		}
		transport.sendMessage(message, to);
		transport.close();
	}
}
